"""IQ4_XS (layout: ops/formats/iq4_xs.py): 16 runs of 16 weights; runs 2s and 2s + 1 share scale s."""

from ..block_function import BlockFunction
from ..language import tl, triton
from .bits import half, kvalue, word


@triton.jit
def decode(block, sub, e):
    """Device function, see BlockFunction."""
    s = sub // 2
    low_scale = (tl.load(block + 4 + s // 2).to(tl.int32) >> (s % 2 * 4)) & 15
    high_scale = (word(block, 2).to(tl.int32) >> (2 * s)) & 3
    scale = half(block, 0) * ((low_scale | (high_scale << 4)) - 32).to(tl.float32)
    q = (tl.load(block + 8 + s * 16 + e).to(tl.int32) >> (sub % 2 * 4)) & 15
    return scale * kvalue(q)


FUNCTION = BlockFunction("IQ4_XS", subs=16, elems=16, decode=decode)

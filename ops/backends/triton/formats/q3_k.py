"""Q3_K (layout: ops/formats/q3_k.py): 16 runs of 16 weights, each with a six-bit scale."""

from ..block_function import BlockFunction
from ..language import tl, triton
from .bits import crumb, half


@triton.jit
def decode(block, sub, e):
    """Device function, see BlockFunction."""
    low_scale = (tl.load(block + 96 + sub % 8).to(tl.int32) >> (sub // 8 * 4)) & 15
    high_scale = (tl.load(block + 104 + sub % 4).to(tl.int32) >> (sub // 4 * 2)) & 3
    scale = half(block, 108) * ((low_scale | (high_scale << 4)) - 32).to(tl.float32)
    third = (tl.load(block + sub % 2 * 16 + e).to(tl.int32) >> (sub // 2)) & 1
    return scale * ((crumb(block, 32, sub, e) | (third << 2)) - 4).to(tl.float32)


FUNCTION = BlockFunction("Q3_K", subs=16, elems=16, decode=decode)

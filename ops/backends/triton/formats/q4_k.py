"""Q4_K (layout: ops/formats/q4_k.py): 8 runs of 32 weights, two of them in the nibbles of the same 32 bytes."""

from ..block_function import BlockFunction
from ..language import tl, triton
from .bits import half, scale_min


@triton.jit
def decode(block, sub, e):
    """Device function, see BlockFunction."""
    sc, mn = scale_min(block, sub)
    q = (tl.load(block + 16 + sub // 2 * 32 + e).to(tl.int32) >> (sub % 2 * 4)) & 15
    return half(block, 0) * sc * q.to(tl.float32) - half(block, 2) * mn


FUNCTION = BlockFunction("Q4_K", subs=8, elems=32, decode=decode)

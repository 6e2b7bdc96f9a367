"""Q5_K (layout: ops/formats/q5_k.py): nibbles as in Q4_K; the fifth bit of run `sub` is bit `sub` of byte 16 + e."""

from ..block_function import BlockFunction
from ..language import tl, triton
from .bits import half, scale_min


@triton.jit
def decode(block, sub, e):
    """Device function, see BlockFunction."""
    sc, mn = scale_min(block, sub)
    low = (tl.load(block + 48 + sub // 2 * 32 + e).to(tl.int32) >> (sub % 2 * 4)) & 15
    high = (tl.load(block + 16 + e).to(tl.int32) >> sub) & 1
    return half(block, 0) * sc * (low | (high << 4)).to(tl.float32) - half(block, 2) * mn


FUNCTION = BlockFunction("Q5_K", subs=8, elems=32, decode=decode)

"""Q6_K (layout: ops/formats/q6_k.py): 16 runs of 16 weights; run s = 8h + 2g + p is half p of group g of half h."""

from ..block_function import BlockFunction
from ..language import tl, triton
from .bits import half


@triton.jit
def decode(block, sub, e):
    """Device function, see BlockFunction."""
    g = sub % 8 // 2
    at = sub // 8 * 64 + g % 2 * 32 + sub % 2 * 16
    low = (tl.load(block + at + e).to(tl.int32) >> (g // 2 * 4)) & 15
    high = (tl.load(block + 128 + sub // 8 * 32 + sub % 2 * 16 + e).to(tl.int32) >> (2 * g)) & 3
    scale = half(block, 208) * tl.load(block + 192 + sub).to(tl.int8, bitcast=True).to(tl.float32)
    return scale * ((low | (high << 4)) - 32).to(tl.float32)


FUNCTION = BlockFunction("Q6_K", subs=16, elems=16, decode=decode)

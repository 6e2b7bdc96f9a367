"""Q5_1 (layout: ops/formats/q5_1.py): nibbles as in Q4_1; the fifth bits of run `sub` are one 16-bit number."""

from ..block_function import BlockFunction
from ..language import tl, triton
from .bits import half, word


@triton.jit
def decode(block, sub, e):
    """Device function, see BlockFunction."""
    low = (tl.load(block + 8 + e).to(tl.int32) >> (4 * sub)) & 15
    high = (word(block, 4 + 2 * sub).to(tl.int32) >> e) & 1
    return half(block, 0) * (low | (high << 4)).to(tl.float32) + half(block, 2)


FUNCTION = BlockFunction("Q5_1", subs=2, elems=16, decode=decode)

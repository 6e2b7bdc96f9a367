"""Q4_1 (layout: ops/formats/q4_1.py): low nibbles are run 0, high nibbles run 1, of the same 16 bytes."""

from ..block_function import BlockFunction
from ..language import tl, triton
from .bits import half


@triton.jit
def decode(block, sub, e):
    """Device function, see BlockFunction."""
    q = (tl.load(block + 4 + e).to(tl.int32) >> (4 * sub)) & 15
    return half(block, 0) * q.to(tl.float32) + half(block, 2)


FUNCTION = BlockFunction("Q4_1", subs=2, elems=16, decode=decode)

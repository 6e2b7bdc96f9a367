"""Q4_0 (layout: ops/formats/q4_0.py): low nibbles are run 0, high nibbles run 1, of the same 16 bytes."""

from ..block_function import BlockFunction
from ..language import tl, triton
from .bits import half


@triton.jit
def decode(block, sub, e):
    """Device function, see BlockFunction."""
    q = (tl.load(block + 2 + e).to(tl.int32) >> (4 * sub)) & 15
    return half(block, 0) * (q - 8).to(tl.float32)


FUNCTION = BlockFunction("Q4_0", subs=2, elems=16, decode=decode)

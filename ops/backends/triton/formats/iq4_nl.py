"""IQ4_NL (layout: ops/formats/iq4_nl.py): low nibbles are run 0, high nibbles run 1, of the same 16 bytes."""

from ..block_function import BlockFunction
from ..language import tl, triton
from .bits import half, kvalue


@triton.jit
def decode(block, sub, e):
    """Device function, see BlockFunction."""
    q = (tl.load(block + 2 + e).to(tl.int32) >> (4 * sub)) & 15
    return half(block, 0) * kvalue(q)


FUNCTION = BlockFunction("IQ4_NL", subs=2, elems=16, decode=decode)

"""Q8_0 (layout: ops/formats/q8_0.py): one run of 32 signed bytes."""

from ..block_function import BlockFunction
from ..language import tl, triton
from .bits import half


@triton.jit
def decode(block, sub, e):
    """Device function, see BlockFunction."""
    q = tl.load(block + 2 + e + sub).to(tl.int8, bitcast=True)  # sub is 0: it only gives the tile its shape
    return half(block, 0) * q.to(tl.float32)


FUNCTION = BlockFunction("Q8_0", subs=1, elems=32, decode=decode)

"""Q2_K (layout: ops/formats/q2_k.py): 16 runs of 16 weights, each with a byte of scale and minimum."""

from ..block_function import BlockFunction
from ..language import tl, triton
from .bits import crumb, half


@triton.jit
def decode(block, sub, e):
    """Device function, see BlockFunction."""
    scales = tl.load(block + sub)
    scale = half(block, 80) * (scales & 15).to(tl.float32)
    minimum = half(block, 82) * (scales >> 4).to(tl.float32)
    return scale * crumb(block, 16, sub, e).to(tl.float32) - minimum


FUNCTION = BlockFunction("Q2_K", subs=16, elems=16, decode=decode)

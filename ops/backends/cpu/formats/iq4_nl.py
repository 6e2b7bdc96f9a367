"""IQ4_NL: the layout is told in `ops.formats.iq4_nl`."""

from ..vectors import HALF, I8, I32, Pointer, Vector
from .lookup import iq4_values


def decode(block: Pointer) -> list[Vector]:
    """18 bytes -> 2 vectors of 16 float32."""
    d = block.load(HALF).to_float().splat(16)
    qs = block.at(2).load(I8, 16)
    return [d * iq4_values(q).sext(I32).to_float() for q in (qs & 15, qs >> 4)]

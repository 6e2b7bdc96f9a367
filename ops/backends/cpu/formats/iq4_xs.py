"""IQ4_XS: the layout is told in `ops.formats.iq4_xs`."""

from ..vectors import HALF, I8, I16, I32, Pointer, Vector, constants
from .lookup import iq4_values


def decode(block: Pointer) -> list[Vector]:
    """136 bytes -> 16 vectors of 16 float32."""
    low = block.at(4).load(I32).splat(8) >> constants(block.builder, I32, range(0, 32, 4))
    high = block.at(2).load(I16).zext(I32).splat(8) >> constants(block.builder, I32, range(0, 16, 2))
    ls = ((low & 15) | ((high & 3) << 4)) - 32  # (8,): one per 32 weights
    scale = block.load(HALF).to_float().splat(8) * ls.to_float()
    weights = []
    for sub in range(8):
        qs = block.at(8 + 16 * sub).load(I8, 16)
        weights += [scale.widen_lane(sub, 16) * iq4_values(q).sext(I32).to_float() for q in (qs & 15, qs >> 4)]
    return weights

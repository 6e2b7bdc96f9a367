"""Q5_K: the layout is told in `ops.formats.q5_k`."""

from ..vectors import HALF, I8, I32, Pointer, Vector
from .scales import six_bit_scales


def decode(block: Pointer) -> list[Vector]:
    """176 bytes -> 16 vectors of 16 float32."""
    d, dmin = (block.at(at).load(HALF).to_float().splat(8) for at in (0, 2))
    sc, mn = six_bit_scales(block.at(4))
    scale, minimum = d * sc, dmin * mn  # (8,) each
    qh = block.at(16).load(I8, 32)
    weights = []
    for chunk in range(4):
        qs = block.at(48 + 32 * chunk).load(I8, 32)
        for sub, nibbles in ((2 * chunk, qs & 15), (2 * chunk + 1, qs >> 4)):
            q = nibbles | (((qh >> sub) & 1) << 4)
            for half in (0, 16):
                values = q.slice(half, 16).zext(I32).to_float()
                weights.append(scale.widen_lane(sub, 16) * values - minimum.widen_lane(sub, 16))
    return weights

"""Q2_K: the layout is told in `ops.formats.q2_k`."""

from ..vectors import HALF, I8, I32, Pointer, Vector


def decode(block: Pointer) -> list[Vector]:
    """84 bytes -> 16 vectors of 16 float32."""
    d, dmin = (block.at(at).load(HALF).to_float().splat(16) for at in (80, 82))
    packed = block.load(I8, 16)
    scale = d * (packed & 15).zext(I32).to_float()  # (16,): one per 16 weights
    minimum = dmin * (packed >> 4).zext(I32).to_float()
    weights = []
    for half in range(2):
        qs = block.at(16 + 32 * half).load(I8, 32)
        for shift in range(4):
            q = (qs >> (2 * shift)) & 3
            for part in range(2):
                sub = 8 * half + 2 * shift + part
                values = q.slice(16 * part, 16).zext(I32).to_float()
                weights.append(scale.widen_lane(sub, 16) * values - minimum.widen_lane(sub, 16))
    return weights

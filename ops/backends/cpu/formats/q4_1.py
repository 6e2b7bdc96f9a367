"""Q4_1: the layout is told in `ops.formats.q4_1`."""

from ..vectors import HALF, I8, I32, Pointer, Vector


def decode(block: Pointer) -> list[Vector]:
    """20 bytes -> 2 vectors of 16 float32."""
    d, m = (block.at(at).load(HALF).to_float().splat(16) for at in (0, 2))
    qs = block.at(4).load(I8, 16)
    return [d * q.zext(I32).to_float() + m for q in (qs & 15, qs >> 4)]

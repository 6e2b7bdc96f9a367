"""Q4_0: the layout is told in `ops.formats.q4_0`."""

from ..vectors import HALF, I8, I32, Pointer, Vector


def decode(block: Pointer) -> list[Vector]:
    """18 bytes -> 2 vectors of 16 float32."""
    d = block.load(HALF).to_float().splat(16)
    qs = block.at(2).load(I8, 16)
    return [d * (q.zext(I32) - 8).to_float() for q in (qs & 15, qs >> 4)]

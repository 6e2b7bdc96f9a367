"""Q8_0: the layout is told in `ops.formats.q8_0`."""

from ..vectors import HALF, I8, I32, Pointer, Vector


def decode(block: Pointer) -> list[Vector]:
    """34 bytes -> 2 vectors of 16 float32."""
    d = block.load(HALF).to_float().splat(16)
    return [d * block.at(at).load(I8, 16).sext(I32).to_float() for at in (2, 18)]

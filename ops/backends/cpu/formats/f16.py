"""F16: 32 numbers taken as a block."""

from ..vectors import HALF, Pointer, Vector

ELEMS = 32


def decode(block: Pointer) -> list[Vector]:
    """64 bytes -> 2 vectors of 16 float32."""
    return [block.at(at).load(HALF, 16).to_float() for at in (0, 32)]

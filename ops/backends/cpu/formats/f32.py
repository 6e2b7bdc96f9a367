"""F32: 32 numbers taken as a block."""

from ..vectors import FLOAT, Pointer, Vector

ELEMS = 32


def decode(block: Pointer) -> list[Vector]:
    """128 bytes -> 2 vectors of 16 float32."""
    return [block.at(at).load(FLOAT, 16) for at in (0, 64)]

"""BF16: 32 numbers taken as a block."""

from ..vectors import I16, Pointer, Vector

ELEMS = 32


def decode(block: Pointer) -> list[Vector]:
    """64 bytes -> 2 vectors of 16 float32."""
    return [block.at(at).load(I16, 16).bfloat_to_float() for at in (0, 32)]

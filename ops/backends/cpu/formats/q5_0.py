"""Q5_0: the layout is told in `ops.formats.q5_0`."""

from ..vectors import HALF, I8, I32, Pointer, Vector, constants


def decode(block: Pointer) -> list[Vector]:
    """22 bytes -> 2 vectors of 16 float32."""
    d = block.load(HALF).to_float().splat(16)
    fifth = block.at(2).load(I32).splat(16)
    qs = block.at(6).load(I8, 16)
    weights = []
    for nibbles, first in ((qs & 15, 0), (qs >> 4, 16)):
        bit = (fifth >> constants(block.builder, I32, range(first, first + 16))) & 1
        weights.append(d * ((nibbles.zext(I32) | (bit << 4)) - 16).to_float())
    return weights

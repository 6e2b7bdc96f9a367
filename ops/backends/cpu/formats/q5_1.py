"""Q5_1: the layout is told in `ops.formats.q5_1`."""

from ..vectors import HALF, I8, I32, Pointer, Vector, constants


def decode(block: Pointer) -> list[Vector]:
    """24 bytes -> 2 vectors of 16 float32."""
    d, m = (block.at(at).load(HALF).to_float().splat(16) for at in (0, 2))
    fifth = block.at(4).load(I32).splat(16)
    qs = block.at(8).load(I8, 16)
    weights = []
    for nibbles, first in ((qs & 15, 0), (qs >> 4, 16)):
        bit = (fifth >> constants(block.builder, I32, range(first, first + 16))) & 1
        weights.append(d * (nibbles.zext(I32) | (bit << 4)).to_float() + m)
    return weights

"""The 12 bytes of scales that Q4_K and Q5_K share."""

from ..vectors import I8, I32, Pointer, Vector


def six_bit_scales(scales: Pointer) -> tuple[Vector, Vector]:
    """12 bytes -> 8 scales and 8 minima as float32, both in 0..63; four bytes at a time in one 32-bit word."""
    first, second, nibbles = (scales.at(at).load(I32) for at in (0, 4, 8))
    sc = first & 0x3F3F3F3F, (nibbles & 0x0F0F0F0F) | ((first >> 2) & 0x30303030)
    mn = second & 0x3F3F3F3F, ((nibbles >> 4) & 0x0F0F0F0F) | ((second >> 2) & 0x30303030)
    return _bytes(*sc), _bytes(*mn)


def _bytes(low: Vector, high: Vector) -> Vector:
    return low.bitcast(I8, 4).join(high.bitcast(I8, 4)).zext(I32).to_float()

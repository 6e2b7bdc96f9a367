"""Q3_K: the layout is told in `ops.formats.q3_k`."""

from ..vectors import HALF, I8, I32, Pointer, Vector


def decode(block: Pointer) -> list[Vector]:
    """110 bytes -> 16 vectors of 16 float32."""
    scale = block.at(108).load(HALF).to_float().splat(16) * _scales(block.at(96)).to_float()
    hmask = block.load(I8, 32)
    weights = []
    for half in range(2):
        qs = block.at(32 + 32 * half).load(I8, 32)
        for shift in range(4):
            third = (hmask >> (4 * half + shift)) & 1  # 0: four less
            q = (((qs >> (2 * shift)) & 3) | (third << 2)).zext(I32) - 4
            for part in range(2):
                sub = 8 * half + 2 * shift + part
                weights.append(scale.widen_lane(sub, 16) * q.slice(16 * part, 16).to_float())
    return weights


def _scales(packed: Pointer) -> Vector:
    """12 bytes -> (16,) 32-bit integers in -32..31: low nibbles in bytes 0..7, two high bits each in bytes 8..11."""
    low0, low1, high = (packed.at(at).load(I32) for at in (0, 4, 8))
    words = [
        (low & 0x0F0F0F0F) | (((high >> shift) & 0x03030303) << 4)
        for low, shift in ((low0, 0), (low1, 2), (low0 >> 4, 4), (low1 >> 4, 6))
    ]
    first, second = (words[i].bitcast(I8, 4).join(words[i + 1].bitcast(I8, 4)) for i in (0, 2))
    return first.join(second).zext(I32) - 32

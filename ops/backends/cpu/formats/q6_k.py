"""Q6_K: the layout is told in `ops.formats.q6_k`."""

from ..vectors import HALF, I8, I32, Pointer, Vector


def decode(block: Pointer) -> list[Vector]:
    """210 bytes -> 16 vectors of 16 float32."""
    scales = block.at(192).load(I8, 16).sext(I32).to_float()
    scale = block.at(208).load(HALF).to_float().splat(16) * scales  # (16,): one per 16 weights
    weights = []
    for half in range(2):
        ql = [block.at(64 * half + at).load(I8, 32) for at in (0, 32)]
        qh = block.at(128 + 32 * half).load(I8, 32)
        for group in range(4):
            nibbles = ql[group % 2] >> 4 if group >= 2 else ql[group % 2] & 15
            q = nibbles | (((qh >> (2 * group)) & 3) << 4)
            for part in range(2):
                sub = 8 * half + 2 * group + part
                values = (q.slice(16 * part, 16).zext(I32) - 32).to_float()
                weights.append(scale.widen_lane(sub, 16) * values)
    return weights

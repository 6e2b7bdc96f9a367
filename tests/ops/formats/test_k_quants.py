"""The K formats: super-blocks of 256 weights decoded by hand, built from the sentences of each layout."""

import struct

from wan_gguf.tests.ops.formats.decode_one import decode_one

SC, MN = [1, 2, 3, 63, 33, 20, 47, 60], [5, 6, 7, 62, 16, 34, 48, 63]  # all six bits are used


def pack_scales(sc: list[int], mn: list[int]) -> bytes:
    """The 12 bytes of Q4_K and Q5_K."""
    low = [sc[j] | (sc[j + 4] >> 4) << 6 for j in range(4)] + [mn[j] | (mn[j + 4] >> 4) << 6 for j in range(4)]
    return bytes(low + [(sc[j + 4] & 15) | (mn[j + 4] & 15) << 4 for j in range(4)])


def pack_two_bits(q: list[int]) -> bytes:
    """qs of Q2_K and Q3_K: weight 128h + 32g + j in bits 2g and 2g + 1 of byte 32h + j."""
    qs = bytearray(64)
    for i, value in enumerate(q):
        half, group, j = i // 128, i % 128 // 32, i % 32
        qs[32 * half + j] |= (value & 3) << (2 * group)
    return bytes(qs)


def test_q2_k_by_hand():
    """Scale s of sub-block s is s, minimum 15 - s; d = 2, dmin = 0.5."""
    q = [(i + i // 7) % 4 for i in range(256)]
    raw = bytes([s | (15 - s) << 4 for s in range(16)]) + pack_two_bits(q) + struct.pack("<2e", 2.0, 0.5)
    assert decode_one("Q2_K", raw) == [2.0 * (i // 16) * q[i] - 0.5 * (15 - i // 16) for i in range(256)]


def test_q3_k_by_hand():
    """Sixteen six-bit scales with different low and high parts; q of all eight values."""
    q = [(3 * i + i // 9) % 8 for i in range(256)]
    hmask = bytearray(32)
    for i, value in enumerate(q):
        hmask[i % 32] |= (value >> 2) << (i // 32)  # bit 4h + g is the number of the run of 32
    sc = [(11 * s + 5) % 64 for s in range(16)]
    scales = [sc[s] & 15 | (sc[s + 8] & 15) << 4 for s in range(8)]
    scales += [sum((sc[k + 4 * part] >> 4) << (2 * part) for part in range(4)) for k in range(4)]
    raw = bytes(hmask) + pack_two_bits(q) + bytes(scales) + struct.pack("<e", 0.5)
    assert decode_one("Q3_K", raw) == [0.5 * (sc[i // 16] - 32) * (q[i] - 4) for i in range(256)]


def test_q4_k_by_hand():
    """d = 2, dmin = 1, q = 3 in low nibbles and 12 in high ones."""
    raw = struct.pack("<2e", 2.0, 1.0) + pack_scales(SC, MN) + bytes([0xC3] * 128)
    expected = []
    for s in range(8):
        q = 12 if s % 2 else 3  # chunk s // 2: low nibbles first, then high
        expected += [2.0 * SC[s] * q - MN[s]] * 32
    assert decode_one("Q4_K", raw) == expected


def test_q5_k_by_hand():
    """d = 2, dmin = 1; 32 values of q, in another order in every sub-block."""
    q = [[(5 * i + 3 * s) % 32 for i in range(32)] for s in range(8)]
    qh = [sum((q[s][i] >> 4) << s for s in range(8)) for i in range(32)]
    qs = [q[2 * c][i] & 15 | (q[2 * c + 1][i] & 15) << 4 for c in range(4) for i in range(32)]
    raw = struct.pack("<2e", 2.0, 1.0) + pack_scales(SC, MN) + bytes(qh) + bytes(qs)
    assert decode_one("Q5_K", raw) == [2.0 * SC[s] * q[s][i] - MN[s] for s in range(8) for i in range(32)]


def test_q6_k_by_hand():
    """Scale s of sub-block s is s - 8."""
    q = [(7 * i + 3) % 64 for i in range(256)]
    ql, qh = bytearray(128), bytearray(64)
    for i, value in enumerate(q):
        half, group, j = i // 128, i % 128 // 32, i % 32
        ql[64 * half + 32 * (group % 2) + j] |= (value & 15) << (4 if group >= 2 else 0)
        qh[32 * half + j] |= (value >> 4) << (2 * group)
    raw = bytes(ql) + bytes(qh) + struct.pack("<16be", *[s - 8 for s in range(16)], 0.25)
    assert decode_one("Q6_K", raw) == [0.25 * (i // 16 - 8) * (q[i] - 32) for i in range(256)]

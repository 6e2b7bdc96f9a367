"""Plain numbers and the formats with one scale for 32 weights: blocks decoded by hand."""

import struct

from wan_gguf.tests.ops.formats.decode_one import decode_one

FIVE_BITS = [(7 * i + 3) % 32 for i in range(32)]  # every value once


def pack_five_bits(q: list[int]) -> bytes:
    """qh, then qs, of Q5_0 and Q5_1."""
    qh = sum((value >> 4) << i for i, value in enumerate(q))  # bit i of the 32 belongs to weight i
    return struct.pack("<I16B", qh, *[q[j] & 15 | (q[j + 16] & 15) << 4 for j in range(16)])


def test_f32_by_hand():
    assert decode_one("F32", bytes.fromhex("0000c03f") + bytes.fromhex("000000c0")) == [1.5, -2.0]


def test_f16_by_hand():
    assert decode_one("F16", bytes.fromhex("003e") + bytes.fromhex("00c0")) == [1.5, -2.0]


def test_bf16_by_hand():
    assert decode_one("BF16", bytes.fromhex("c03f") + bytes.fromhex("00c0")) == [1.5, -2.0]


def test_q8_0_by_hand():
    qs = [-128, -1, 0, 1, 127, *range(27)]
    assert decode_one("Q8_0", struct.pack("<e32b", 0.5, *qs)) == [0.5 * q for q in qs]


def test_q4_0_by_hand():
    """Byte j = 0x10 * (15 - j) + j: weight j is j - 8, weight 16 + j is 7 - j, times the scale 2."""
    raw = struct.pack("<e16B", 2.0, *[16 * (15 - j) + j for j in range(16)])
    assert decode_one("Q4_0", raw) == [2.0 * (j - 8) for j in range(16)] + [2.0 * (7 - j) for j in range(16)]


def test_q4_1_by_hand():
    """Byte j = 0x10 * (15 - j) + j: weight j is j, weight 16 + j is 15 - j, times 2, minus 3."""
    raw = struct.pack("<2e16B", 2.0, -3.0, *[16 * (15 - j) + j for j in range(16)])
    assert decode_one("Q4_1", raw) == [2.0 * j - 3 for j in range(16)] + [2.0 * (15 - j) - 3 for j in range(16)]


def test_q5_0_by_hand():
    raw = struct.pack("<e", 0.5) + pack_five_bits(FIVE_BITS)
    assert decode_one("Q5_0", raw) == [0.5 * (q - 16) for q in FIVE_BITS]


def test_q5_1_by_hand():
    raw = struct.pack("<2e", 0.5, -7.0) + pack_five_bits(FIVE_BITS)
    assert decode_one("Q5_1", raw) == [0.5 * q - 7 for q in FIVE_BITS]

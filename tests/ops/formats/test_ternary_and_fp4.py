"""TQ1_0, TQ2_0, MXFP4 and NVFP4: blocks decoded by hand."""

import struct

from wan_gguf.tests.ops.formats.decode_one import decode_one

TRITS = [(i + i // 5 + i // 11) % 3 for i in range(256)]
E2M1 = [0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6]  # the values themselves, not doubled


def pack_trits(first: int, n_bytes: int, n_digits: int) -> list[int]:
    """Bytes of base-3 fractions times 256, rounded up; digit p of byte j is trit first + p * n_bytes + j."""
    packed = []
    for j in range(n_bytes):
        fraction = sum(TRITS[first + p * n_bytes + j] * 3 ** (4 - p) for p in range(n_digits))  # in 243rds
        packed.append((fraction * 256 + 242) // 243)
    return packed


def test_tq1_0_by_hand():
    packed = pack_trits(0, 32, 5) + pack_trits(160, 16, 5) + pack_trits(240, 4, 4)
    raw = struct.pack("<52Be", *packed, 0.5)
    assert decode_one("TQ1_0", raw) == [0.5 * (t - 1) for t in TRITS]


def test_tq2_0_by_hand():
    """Weight 128h + 32g + j in bits 2g and 2g + 1 of byte 32h + j; the 3 that ggml does not write reads as 2."""
    q = [*TRITS[:255], 3]
    qs = [sum(q[128 * h + 32 * g + j] << (2 * g) for g in range(4)) for h in range(2) for j in range(32)]
    assert decode_one("TQ2_0", struct.pack("<64Be", *qs, 0.5)) == [0.5 * (value - 1) for value in q]


def test_mxfp4_by_hand():
    """e = 130: the scale 2^3. Low nibbles j, high nibbles 15 - j."""
    raw = struct.pack("<17B", 130, *[j | (15 - j) << 4 for j in range(16)])
    assert decode_one("MXFP4", raw) == [8.0 * E2M1[j] for j in range(16)] + [8.0 * E2M1[15 - j] for j in range(16)]


def test_nvfp4_by_hand():
    """Scales 1 (exponent 7), 2.25 (exponent 8, mantissa 1), the denormal 3/512, and NaN, which counts as 0."""
    raw = bytes([7 << 3, 8 << 3 | 1, 3, 127])
    raw += bytes(j | (15 - j) << 4 for j in [*range(8), *range(8, 16)] * 2)
    expected = []
    for s, scale in enumerate([1.0, 2.25, 3 / 512, 0.0]):
        js = range(8) if s % 2 == 0 else range(8, 16)
        expected += [scale * E2M1[j] for j in js] + [scale * E2M1[15 - j] for j in js]
    assert decode_one("NVFP4", raw) == expected

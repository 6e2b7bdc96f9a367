"""The IQ formats: super-blocks decoded by hand with points as ggml-common.h prints them, and the grids whole."""

import struct
from importlib import import_module

import gguf
import numpy as np
import pytest

from wan_gguf.ops.formats.iq_grids import EVEN_SIGNS, SIGNS
from wan_gguf.tests.ops.formats.decode_one import decode_one

IQ4_VALUES = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113]
IQ1S_GRID = {0: "ffffffffffffffff", 1: "ffffffffffffff01", 3: "ffffffffffff01ff", 257: "ff00ff0100010001",
             700: "00ff00ff0000ff00", 2047: "0101010101010101"}  # fmt: skip
IQ2XXS_GRID = {1: "080808080808082b", 2: "0808080808081919", 100: "08192b0808081908", 255: "2b2b2b1908081908"}
IQ2XS_GRID = {1: "080808080808082b", 3: "0808080808082b08", 257: "1908080808082b19", 511: "2b2b2b2b2b2b2b2b"}
IQ2S_GRID = {1: "080808080808082b", 100: "080819081919192b", 513: "1908081919080819", 1023: "2b2b2b2b2b2b2b2b"}
IQ3XXS_GRID = {1: "04040414", 5: "04040c3e", 100: "14040c1c", 255: "3e341c04"}
IQ3S_GRID = {3: "0101010b", 5: "01010301", 100: "010f0101", 300: "07030503", 511: "0f0f0101"}
KSIGNS = {0: 0, 1: 129, 2: 130, 3: 3, 64: 192, 100: 228, 127: 255}  # entries of ksigns_iq2xs


def cycle(grid: dict[int, str], count: int) -> list[tuple[int, list[int]]]:
    """`count` times an index and its point: printed as one number, so the first weight is the last byte."""
    points = [(index, list(struct.unpack(f"<{len(text) // 2}b", bytes.fromhex(text)[::-1]))) for index, text in
              grid.items()]  # fmt: skip
    return [points[(g + g // 3) % len(points)] for g in range(count)]


def signed(points: list[list[int]], bytes_of_signs: list[int]) -> list[int]:
    """All weights in a row; weight i is negated where bit i % 8 of byte i // 8 is set."""
    weights = [value for point in points for value in point]
    return [-value if bytes_of_signs[i // 8] >> (i % 8) & 1 else value for i, value in enumerate(weights)]


def nibbles(values: list[int]) -> bytes:
    """Two to a byte, the first one low."""
    return bytes(low | high << 4 for low, high in zip(values[::2], values[1::2], strict=True))


SIGN_INDICES = [list(KSIGNS)[g % len(KSIGNS)] for g in range(32)]
SCALES_8 = [0, 15, 3, 8, 1, 14, 6, 9]
SCALES_16 = [*SCALES_8, 7, 2, 13, 4, 11, 5, 10, 12]


def test_iq4_nl_by_hand():
    raw = struct.pack("<e16B", 0.5, *[16 * (15 - j) + j for j in range(16)])
    assert decode_one("IQ4_NL", raw) == [0.5 * value for value in IQ4_VALUES + IQ4_VALUES[::-1]]


def test_iq4_xs_by_hand():
    """Six-bit scales with different low and high parts; nibble j is 16 bytes of sub-block s, rotated by s."""
    sc = [0, 63, 33, 18, 5, 47, 32, 20]
    scales_h = sum((value >> 4) << (2 * s) for s, value in enumerate(sc))
    raw = struct.pack("<eH", 0.5, scales_h) + nibbles([value & 15 for value in sc])
    raw += bytes((j + s) % 16 | (15 - (j + s) % 16) << 4 for s in range(8) for j in range(16))
    expected = []
    for s in range(8):
        turned = [(j + s) % 16 for j in range(16)]
        expected += [0.5 * (sc[s] - 32) * IQ4_VALUES[q] for q in turned + [15 - q for q in turned]]
    assert decode_one("IQ4_XS", raw) == expected


def test_iq1_s_by_hand():
    chosen, negative = cycle(IQ1S_GRID, 32), [0, 1, 1, 0, 1, 0, 0, 1]
    sc = [0, 7, 3, 1, 6, 2, 5, 4]
    qs = bytes(index & 255 for index, _ in chosen)
    qh = [
        sum((chosen[4 * s + k][0] >> 8) << (3 * k) for k in range(4)) | sc[s] << 12 | negative[s] << 15
        for s in range(8)
    ]
    expected = []
    for g, (_, point) in enumerate(chosen):
        delta = -0.125 if negative[g // 4] else 0.125
        expected += [0.5 * (2 * sc[g // 4] + 1) * (value + delta) for value in point]
    assert decode_one("IQ1_S", struct.pack("<e", 0.5) + qs + struct.pack("<8H", *qh)) == expected


def test_iq1_m_by_hand():
    """d = -1.171875 is 0xbcb0 in fp16: its digits b, c, b, 0 stand on top of the four numbers, the last one first."""
    chosen, negative = cycle(IQ1S_GRID, 32), [(g * 5 + g // 4) % 3 == 0 for g in range(32)]
    sc = [value % 8 for value in SCALES_16]
    qs = bytes(index & 255 for index, _ in chosen)
    qh = nibbles([index >> 8 | negative[g] << 3 for g, (index, _) in enumerate(chosen)])
    scales = [
        sum(sc[4 * k + part] << (3 * part) for part in range(4)) | digit << 12
        for k, digit in enumerate([0x0, 0xB, 0xC, 0xB])
    ]
    expected = []
    for g, (_, point) in enumerate(chosen):
        delta = -0.125 if negative[g] else 0.125
        expected += [-1.171875 * (2 * sc[g // 2] + 1) * (value + delta) for value in point]
    assert decode_one("IQ1_M", qs + qh + struct.pack("<4H", *scales)) == expected


def test_iq2_xxs_by_hand():
    chosen, raw = cycle(IQ2XXS_GRID, 32), struct.pack("<e", 2.0)
    for s in range(8):
        raw += bytes(index for index, _ in chosen[4 * s : 4 * s + 4])
        signs = sum(SIGN_INDICES[4 * s + k] << (7 * k) for k in range(4))
        raw += struct.pack("<I", signs | SCALES_8[s] << 28)
    weights = signed([point for _, point in chosen], [KSIGNS[index] for index in SIGN_INDICES])
    expected = [2.0 * (SCALES_8[i // 32] + 0.5) / 4 * value for i, value in enumerate(weights)]
    assert decode_one("IQ2_XXS", raw) == expected


def test_iq2_xs_by_hand():
    chosen = cycle(IQ2XS_GRID, 32)
    qs = [index | SIGN_INDICES[g] << 9 for g, (index, _) in enumerate(chosen)]
    raw = struct.pack("<e32H", 2.0, *qs) + nibbles(SCALES_16)
    weights = signed([point for _, point in chosen], [KSIGNS[index] for index in SIGN_INDICES])
    expected = [2.0 * (SCALES_16[i // 16] + 0.5) / 4 * value for i, value in enumerate(weights)]
    assert decode_one("IQ2_XS", raw) == expected


def test_iq2_s_by_hand():
    chosen, signs = cycle(IQ2S_GRID, 32), [(37 * g + 11) % 256 for g in range(32)]
    qs = bytes(index & 255 for index, _ in chosen)
    qh = bytes(sum((chosen[4 * s + k][0] >> 8) << (2 * k) for k in range(4)) for s in range(8))
    raw = struct.pack("<e", 2.0) + qs + bytes(signs) + qh + nibbles(SCALES_16)
    weights = signed([point for _, point in chosen], signs)
    expected = [2.0 * (SCALES_16[i // 16] + 0.5) / 4 * value for i, value in enumerate(weights)]
    assert decode_one("IQ2_S", raw) == expected


def test_iq3_xxs_by_hand():
    chosen = cycle(IQ3XXS_GRID, 64)
    words = [sum(SIGN_INDICES[4 * s + k] << (7 * k) for k in range(4)) | SCALES_8[s] << 28 for s in range(8)]
    raw = struct.pack("<e", 2.0) + bytes(index for index, _ in chosen) + struct.pack("<8I", *words)
    weights = signed([point for _, point in chosen], [KSIGNS[index] for index in SIGN_INDICES])
    expected = [2.0 * (SCALES_8[i // 32] + 0.5) / 2 * value for i, value in enumerate(weights)]
    assert decode_one("IQ3_XXS", raw) == expected


def test_iq3_s_by_hand():
    chosen, signs = cycle(IQ3S_GRID, 64), [(37 * b + 11) % 256 for b in range(32)]
    qs = bytes(index & 255 for index, _ in chosen)
    qh = bytes(sum((chosen[8 * b + k][0] >> 8) << k for k in range(8)) for b in range(8))
    raw = struct.pack("<e", 0.5) + qs + qh + bytes(signs) + nibbles(SCALES_8)
    weights = signed([point for _, point in chosen], signs)
    expected = [0.5 * (2 * SCALES_8[i // 32] + 1) * value for i, value in enumerate(weights)]
    assert decode_one("IQ3_S", raw) == expected


@pytest.mark.parametrize("name", ["IQ1_S", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S"])
def test_the_grid_is_gguf_py_s(name):
    """Every point: random blocks do not reach all of them."""
    reference = getattr(gguf.quants, name)
    reference.init_grid()
    found = import_module(f"wan_gguf.ops.formats.{name.lower()}").GRID
    np.testing.assert_array_equal(found.numpy(), reference.grid.reshape(reference.grid_shape))


def test_the_signs_are_gguf_py_s():
    masks = np.frombuffer(gguf.quants.IQ2_XXS.ksigns, np.uint8)
    np.testing.assert_array_equal(EVEN_SIGNS.numpy(), SIGNS.numpy()[masks])
    bits = np.unpackbits(np.arange(256, dtype=np.uint8).reshape(256, 1), axis=1, bitorder="little")
    np.testing.assert_array_equal(SIGNS.numpy(), 1 - 2 * bits.astype(np.int8))

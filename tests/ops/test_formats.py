"""Every block format: exact against gguf-py on random bytes, and one block decoded by hand."""

import struct

import gguf
import numpy as np
import pytest
import torch

from wan_gguf.ops.dequantize import dequantize
from wan_gguf.ops.formats import FORMATS, FORMATS_BY_ID
from wan_gguf.ops.packed import PackedWeight

ALL = list(FORMATS)
NUMPY_TYPES = {"F32": np.float32, "F16": np.float16}


def gguf_py(name: str, rows: np.ndarray) -> np.ndarray:
    """(n, row_bytes) uint8 -> float32, by gguf-py, whose overflow and NaN warnings on random scales do not matter."""
    values = rows.view(NUMPY_TYPES[name]) if name in NUMPY_TYPES else rows
    with np.errstate(all="ignore"):
        return gguf.quants.dequantize(values, gguf.GGMLQuantizationType[name]).astype(np.float32)


def packed_rows(name: str, n: int, k: int, seed: int) -> tuple[np.ndarray, PackedWeight]:
    """Random bytes: every scale occurs, denormal, infinite and NaN ones too."""
    rows = np.random.default_rng(seed).integers(0, 256, (n, FORMATS[name].row_bytes(k)), dtype=np.uint8)
    return rows, PackedWeight(torch.from_numpy(rows).view(-1), FORMATS[name], (n, k))


def test_these_types_are_there():
    assert {"F32", "F16", "BF16", "Q4_0", "Q8_0", "Q4_K", "Q6_K"} <= set(FORMATS)


@pytest.mark.parametrize("name", ALL)
def test_geometry_is_ggml_s(name):
    found = FORMATS[name]
    expected = gguf.GGMLQuantizationType[name]
    assert (found.block_elems, found.block_bytes) == gguf.GGML_QUANT_SIZES[expected]
    assert found.ggml_type == expected.value
    assert FORMATS_BY_ID[found.ggml_type] is found


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("seed", range(3))
def test_decode_equals_gguf_py_on_random_bytes(name, seed):
    rows, packed = packed_rows(name, 37, 768, seed)
    expected = gguf_py(name, rows)
    np.testing.assert_array_equal(dequantize(packed).numpy(), expected)  # equal bits but for the payload of NaNs
    assert np.isfinite(expected).any()


@pytest.mark.parametrize("name", [name for name in ALL if FORMATS[name].block_elems > 1])
@pytest.mark.parametrize("scale", [0.0, 6e-8, -6.1e-5, 1.0, -65504.0])
def test_decode_with_extreme_scales(name, scale):
    """Zero, the smallest denormal, the largest denormal, and the largest fp16 as the scale."""
    rows, packed = packed_rows(name, 3, 512, 7)
    blocks = rows.reshape(-1, FORMATS[name].block_bytes)
    for at in {"Q4_K": (0, 2), "Q6_K": (208,)}.get(name, (0,)):
        blocks[:, at : at + 2] = np.frombuffer(struct.pack("<e", scale), np.uint8)
    np.testing.assert_array_equal(dequantize(packed).numpy(), gguf_py(name, rows))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_are_the_float32_values_rounded_once(name, dtype):
    _, packed = packed_rows(name, 5, 512, 3)
    torch.testing.assert_close(dequantize(packed, dtype), dequantize(packed).to(dtype), rtol=0, atol=0, equal_nan=True)


def decode_one(name: str, raw: bytes) -> list[float]:
    blocks = torch.frombuffer(bytearray(raw), dtype=torch.uint8).view(-1, FORMATS[name].block_bytes)
    return FORMATS[name].decode(blocks, torch.float32).view(-1).tolist()


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


def test_q4_k_by_hand():
    """d = 2, dmin = 1, scales and minima that use all six bits, q = 3 in low nibbles and 12 in high ones."""
    sc, mn = [1, 2, 3, 63, 33, 20, 47, 60], [5, 6, 7, 62, 16, 34, 48, 63]
    scales = [sc[j] | (sc[j + 4] >> 4) << 6 for j in range(4)] + [mn[j] | (mn[j + 4] >> 4) << 6 for j in range(4)]
    scales += [(sc[j + 4] & 15) | (mn[j + 4] & 15) << 4 for j in range(4)]
    raw = struct.pack("<2e12B", 2.0, 1.0, *scales) + bytes([0xC3] * 128)
    expected = []
    for s in range(8):
        q = 12 if s % 2 else 3  # chunk s // 2: low nibbles first, then high
        expected += [2.0 * sc[s] * q - mn[s]] * 32
    assert decode_one("Q4_K", raw) == expected


def test_q6_k_by_hand():
    """Scale s of sub-block s is s - 8; weights built from the layout's sentences in the module's docstring."""
    q = [(7 * i + 3) % 64 for i in range(256)]
    ql, qh = bytearray(128), bytearray(64)
    for i, value in enumerate(q):
        half, group, j = i // 128, i % 128 // 32, i % 32
        ql[64 * half + 32 * (group % 2) + j] |= (value & 15) << (4 if group >= 2 else 0)
        qh[32 * half + j] |= (value >> 4) << (2 * group)
    raw = bytes(ql) + bytes(qh) + struct.pack("<16be", *[s - 8 for s in range(16)], 0.25)
    assert decode_one("Q6_K", raw) == [0.25 * (i // 16 - 8) * (q[i] - 32) for i in range(256)]


@pytest.mark.parametrize("name", ALL)
def test_row_bytes(name):
    found = FORMATS[name]
    assert found.row_bytes(found.block_elems * 3) == found.block_bytes * 3
    if found.block_elems > 1:
        with pytest.raises(ValueError, match=f"{name} row length: got 33; a multiple of {found.block_elems}"):
            found.row_bytes(33)

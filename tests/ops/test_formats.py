"""Every block format against gguf-py, bit for bit. Blocks decoded by hand are in `formats/`."""

import gguf
import numpy as np
import pytest
import torch

from wan_gguf.ops.backends.reference.decode import decode
from wan_gguf.ops.formats import FORMATS, FORMATS_BY_ID
from wan_gguf.ops.packed import PackedWeight
from wan_gguf.tests.loaders.build import random_bytes
from wan_gguf.tests.ops.scales import BYTE_SCALES, FP16_SCALES, write_fp16_scales

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


def assert_same_bits(found: torch.Tensor, expected: np.ndarray) -> None:
    """The sign of a zero counts, the payload of a NaN does not."""
    nan = np.isnan(expected)
    np.testing.assert_array_equal(np.isnan(found.numpy()), nan)
    np.testing.assert_array_equal(found.numpy().view(np.uint32)[~nan], expected.view(np.uint32)[~nan])


def test_these_types_are_there():
    assert set(FORMATS) == {
        "F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K",
        "IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_NL", "IQ4_XS",
        "TQ1_0", "TQ2_0", "MXFP4", "NVFP4",
    }  # fmt: skip


@pytest.mark.parametrize("ggml_type", list(gguf.GGMLQuantizationType), ids=lambda ggml_type: ggml_type.name)
def test_every_type_gguf_py_can_decode_is_there(ggml_type):
    """And no other: the oracle of a type it cannot decode would be missing."""
    block_bytes = gguf.GGML_QUANT_SIZES[ggml_type][1]
    try:
        gguf.quants.dequantize(np.zeros((1, block_bytes), dtype=np.uint8), ggml_type)
    except NotImplementedError:
        assert ggml_type.name not in FORMATS
    else:
        assert ggml_type.name in FORMATS


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
    assert_same_bits(decode(packed, torch.float32), expected)
    assert np.isfinite(expected).any()


@pytest.mark.parametrize("name", ALL)
def test_a_block_alone_decodes_as_among_others(name):
    """The fields of a single block are contiguous, at any offset: views of wider numbers must not rely on either."""
    found = FORMATS[name]
    blocks = torch.frombuffer(bytearray(random_bytes(name, 4, np.random.default_rng(1))), dtype=torch.uint8)
    blocks = blocks.view(4, found.block_bytes)
    together = found.decode(blocks, torch.float32)
    for i in range(4):
        assert torch.equal(found.decode(blocks[i : i + 1], torch.float32), together[i : i + 1])
    assert found.decode(blocks[:0], torch.float32).shape == (0, found.block_elems)


@pytest.mark.parametrize("name", FP16_SCALES)
@pytest.mark.parametrize("scale", [0.0, 6e-8, -6.1e-5, 1.0, -65504.0, np.inf, np.nan])
def test_decode_with_extreme_scales(name, scale):
    """Zero, the smallest denormal, the largest denormal, the largest fp16, infinity and NaN as the scale."""
    rows, packed = packed_rows(name, 3, 512, 7)
    blocks = rows.reshape(-1, FORMATS[name].block_bytes)
    write_fp16_scales(name, blocks, lambda: np.full(len(blocks), scale))
    expected = gguf_py(name, rows)
    assert np.isfinite(expected).all() == np.isfinite(scale)  # the scale did arrive
    assert_same_bits(decode(packed, torch.float32), expected)


@pytest.mark.parametrize("name", BYTE_SCALES)
def test_decode_with_every_scale_of_one_byte(name):
    blocks = np.random.default_rng(7).integers(0, 256, (256, FORMATS[name].block_bytes), dtype=np.uint8)
    blocks[:, BYTE_SCALES[name]] = np.arange(256, dtype=np.uint8)[:, None]
    packed = PackedWeight(torch.from_numpy(blocks).view(-1), FORMATS[name], (256, FORMATS[name].block_elems))
    assert_same_bits(decode(packed, torch.float32), gguf_py(name, blocks))


def test_the_scale_of_every_block_format_is_known():
    """So that no format is left out of the tests above."""
    assert {*FP16_SCALES, *BYTE_SCALES} == {name for name in ALL if FORMATS[name].block_elems > 1}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_are_the_float32_values_rounded_once(name, dtype):
    _, packed = packed_rows(name, 5, 512, 3)
    torch.testing.assert_close(
        decode(packed, dtype), decode(packed, torch.float32).to(dtype), rtol=0, atol=0, equal_nan=True
    )


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("default", [torch.bfloat16, torch.float64])
def test_torch_s_default_dtype_does_not_matter(name, default):
    """A host may change it; a Python number times integers would take it."""
    rows, packed = packed_rows(name, 5, 512, 3)
    before = torch.get_default_dtype()
    torch.set_default_dtype(default)
    try:
        found = decode(packed, torch.float32)
    finally:
        torch.set_default_dtype(before)
    assert found.dtype == torch.float32
    assert_same_bits(found, gguf_py(name, rows))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_decode_stays_on_the_device_of_the_blocks(name, dtype):
    """On the meta device an operation with a tensor of the CPU, such as a lookup table, is an error."""
    found = FORMATS[name]
    values = found.decode(torch.empty((6, found.block_bytes), dtype=torch.uint8, device="meta"), dtype)
    assert (values.device.type, values.shape, values.dtype) == ("meta", (6, found.block_elems), dtype)


@pytest.mark.parametrize("name", ALL)
def test_row_bytes(name):
    found = FORMATS[name]
    assert found.row_bytes(found.block_elems * 3) == found.block_bytes * 3
    if found.block_elems > 1:
        with pytest.raises(ValueError, match=f"{name} row length: got 33; a multiple of {found.block_elems}"):
            found.row_bytes(33)

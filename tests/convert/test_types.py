"""Every type the converter makes: its decoded numbers are gguf-py's bit for bit, and close to the source."""

import gguf
import numpy as np
import pytest
import torch

from wan_gguf.convert import quantize as quantize_module
from wan_gguf.convert.errors import ConvertError
from wan_gguf.convert.ggml_types import block_size, tensor_bytes
from wan_gguf.convert.quantize import quantize, refuse_type
from wan_gguf.loaders.gguf.geometry import GEOMETRIES
from wan_gguf.ops.dequantize import dequantize
from wan_gguf.ops.formats import FORMATS
from wan_gguf.ops.packed import PackedWeight

# Relative RMS error of normally distributed weights, measured once; these tests allow a tenth more.
NORMAL_ERROR = {
    "Q2_K": 0.297, "Q3_K": 0.151, "Q4_0": 0.0861, "Q4_1": 0.0783, "Q4_K": 0.0715, "IQ4_NL": 0.0762, "IQ4_XS": 0.0768,
    "Q5_0": 0.0428, "Q5_1": 0.0379, "Q5_K": 0.0362, "Q6_K": 0.0178, "Q8_0": 0.0054, "BF16": 0.0017, "F16": 0.0002,
}  # fmt: skip


def rows(n: int = 8, k: int = 512, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal((n, k)) * 0.05).astype(np.float32)


@pytest.mark.parametrize("type_name", NORMAL_ERROR)
def test_what_we_decode_is_what_gguf_py_decodes(type_name):
    weights = rows()
    packed = quantize(weights, type_name, "a tensor")
    ours = dequantize(PackedWeight(torch.from_numpy(packed.copy()), FORMATS[type_name], weights.shape)).numpy()
    kind = gguf.GGMLQuantizationType[type_name]
    raw = packed.view(np.float16).reshape(weights.shape) if type_name == "F16" else packed.reshape(len(weights), -1)
    theirs = gguf.quants.dequantize(raw, kind).astype(np.float32).reshape(weights.shape)
    assert np.array_equal(ours.view(np.uint32), theirs.view(np.uint32))
    error = np.sqrt(np.mean((ours - weights) ** 2) / np.mean(weights**2))
    assert 0 < error < 1.1 * NORMAL_ERROR[type_name]


@pytest.mark.parametrize("type_name", ["F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"])
def test_bytes_do_not_depend_on_which_package_quantises(type_name, monkeypatch):
    """Denormals, zeros, rows of one sign and halves that round to even are among the weights."""
    weights = rows(12)
    weights[0], weights[1], weights[2] = 0, np.abs(weights[1]), 1e-6 * weights[2]
    weights[3] = np.arange(512) / 2048
    first = quantize(weights, type_name, "a tensor")
    monkeypatch.setattr(quantize_module, "libgguf", None)
    assert np.array_equal(first, quantize(weights, type_name, "a tensor"))


def test_without_libgguf_the_other_types_are_refused_with_what_works(monkeypatch):
    monkeypatch.setattr(quantize_module, "libgguf", None)
    assert refuse_type("Q8_0") is None
    reason = refuse_type("Q4_K")
    assert reason.startswith("Q4_K needs the package libgguf, which is not installed here")
    assert reason.endswith("or choose Q4_0, Q4_1, Q5_0, Q5_1, Q8_0")


def test_pieces_of_rows_make_the_same_bytes_as_all_of_them():
    weights = rows(16)
    whole = quantize(weights, "Q4_K", "a tensor")
    parts = [quantize(np.ascontiguousarray(weights[i : i + 4]), "Q4_K", "a tensor") for i in range(0, 16, 4)]
    assert np.array_equal(whole, np.concatenate(parts))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("type_name", ["Q4_K", "Q8_0", "F16", "BF16", "F32"])
def test_numbers_that_are_not_finite_are_refused_with_the_tensor_s_name(type_name, value):
    weights = rows()
    weights[2, 5] = value
    with pytest.raises(ConvertError, match=r"x.gguf: tensor blocks.0.a: 1 of 4096 numbers are not finite"):
        quantize(weights, type_name, "x.gguf: tensor blocks.0.a")


@pytest.mark.parametrize("type_name", ["F16", "Q4_K", "Q8_0"])
def test_numbers_beyond_an_f16_are_refused_where_they_do_not_fit(type_name):
    weights = rows()
    weights[1, 1] = -70000
    with pytest.raises(ConvertError, match=f"a number of size 70000; {type_name} holds at most 65504; choose BF16"):
        quantize(weights, type_name, "a tensor")
    for wide in ("F32", "BF16"):
        assert len(quantize(weights, wide, "a tensor")) == tensor_bytes(wide, weights.shape)


def test_block_sizes_without_torch_are_those_of_the_decoders():
    ours = {name: (found.ggml_type, found.block_elems, found.block_bytes) for name, found in FORMATS.items()}
    listed = {name: (found.ggml_type, found.block_elems, found.block_bytes) for name, found in GEOMETRIES.items()}
    assert list(ours.items()) == list(listed.items())
    assert all(block_size(name) == (found.block_elems, found.block_bytes) for name, found in FORMATS.items())

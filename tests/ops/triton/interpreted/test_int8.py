"""Mode int8: the parts bit for bit as `ops/int8.py` defines them, the whole against the reference."""

import dataclasses

import pytest
import torch

from wan_gguf.ops.backends.reference import int8_linear as reference
from wan_gguf.ops.backends.reference import row_peaks as reference_row_peaks
from wan_gguf.ops.backends.reference.decode import decode
from wan_gguf.ops.backends.triton import activations as activations_module
from wan_gguf.ops.backends.triton import int8_linear as module
from wan_gguf.ops.backends.triton import row_peaks
from wan_gguf.ops.backends.triton.activations import quantize
from wan_gguf.ops.backends.triton.decode_int8 import decode_columns, decode_int8
from wan_gguf.ops.int8 import QMAX, quantize_activations, scale_of
from wan_gguf.ops.row_scales import row_scales
from wan_gguf.tests.loaders.build import packed_weight
from wan_gguf.tests.ops.triton.interpreted.same import ALL, DTYPES


def activations(m: int, k: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Gaussian tokens with eight channels 20 times as large."""
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(m, k, generator=generator)
    x[:, torch.randperm(k, generator=generator)[:8]] *= 20
    return x.to(dtype)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(("n", "k"), [(1, 256), (5, 2304)])
def test_row_peaks(name, n, k):
    packed = packed_weight(name, (n, k))
    assert torch.equal(row_peaks.run(packed), reference_row_peaks.run(packed))


def test_a_row_of_zeros_has_scale_1():
    packed = packed_weight("Q8_0", (3, 256))
    data = packed.data.clone().view(3, -1)
    data[1] = 0
    packed = dataclasses.replace(packed, data=data.view(-1))
    scale = scale_of(row_peaks.run(packed))
    assert scale[1] == 1
    assert not decode_int8(packed, scale)[1].any()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(("n", "k"), [(1, 256), (5, 1280)], ids=["less_than_a_tile", "tiles_that_overhang"])
def test_weights(name, n, k):
    packed = packed_weight(name, (n, k))
    scale, weight = row_scales(packed), decode(packed, torch.float32)
    q = decode_int8(packed, scale)
    expected = (weight * scale.reciprocal()[:, None]).round().clamp(-QMAX, QMAX).to(torch.int8)
    assert torch.equal(q, expected)
    assert {-QMAX, QMAX} & set(q.unique().tolist())


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(("n", "k"), [(1, 256), (70, 1280)], ids=["less_than_a_tile", "tiles_that_overhang"])
def test_columns(name, n, k):
    packed = packed_weight(name, (n, k))
    columns = torch.tensor([200, 0, 1, 7, 31, 32, 63, 100, 128, 129, 150, 201, 202, 253, 254, k - 1])
    assert torch.equal(decode_columns(packed, columns), decode(packed, torch.float32)[:, columns].T)


def test_a_scale_that_is_too_small_saturates():
    packed = packed_weight("Q6_K", (4, 256))
    q = decode_int8(packed, row_scales(packed) / 3)
    assert q.min() == -QMAX
    assert q.max() == QMAX


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("m", "k"), [(1, 256), (21, 2080)], ids=["one_token", "stretches_and_tiles_that_overhang"])
def test_activations(dtype, m, k, monkeypatch):
    monkeypatch.setattr(activations_module, "TOKEN_TILE", 16)
    x = activations(m, k, dtype)
    expected, found = quantize_activations(x), quantize(x)
    assert torch.equal(found.columns.sort().values, expected.columns)
    assert torch.equal(found.kept, x[:, found.columns].float())
    assert torch.equal(found.scale, expected.scale[:, 0])
    assert torch.equal(found.q, expected.q)


def test_a_token_of_zeros():
    x = activations(3, 256)
    x[1] = 0
    found = quantize(x)
    assert found.scale[1] == 1
    assert not found.q[1].any()


def check(x, packed, bias):
    """The same integers, so the integer sums are equal; the reference has them in float32, where they are rounded.

    Otherwise the difference is that of float32 sums of k + 18 terms in another order: (k + 18) * 2^-24 of the sum of
    the absolute terms, here in float64, and one unit of x's dtype for the last rounding.
    """
    found, expected = module.run(x, packed, bias), reference.run(x, packed, bias)
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    weight, k = decode(packed, torch.float32).double(), packed.shape[1]
    absolute = x.double().abs() @ weight.abs().T * 1.02  # the integers times their scales: at most 1/127 larger
    absolute = absolute if bias is None else absolute + bias.double().abs()
    bound = torch.finfo(x.dtype).eps * expected.double().abs() + (k + 18) * 2.0**-24 * absolute
    assert ((found.double() - expected.double()).abs() <= bound).all()


@pytest.mark.parametrize("name", ["Q4_K", "Q5_1", "Q8_0"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_whole(name, dtype):
    packed = packed_weight(name, (136, 512))
    packed = dataclasses.replace(packed, row_scale=row_scales(packed))
    check(activations(18, 512, dtype), packed, torch.linspace(-3, 3, 136).to(dtype))


def test_tokens_of_several_dimensions_and_no_bias():
    check(activations(18, 256).view(3, 6, 256), packed_weight("Q4_0", (8, 256)), None)


def test_kept_row_scales_are_used():
    packed = packed_weight("Q4_K", (24, 256))
    twice = dataclasses.replace(packed, row_scale=2 * row_scales(packed))
    check(activations(17, 256), twice, None)
    assert not torch.equal(
        module.run(activations(17, 256), twice, None), module.run(activations(17, 256), packed, None)
    )


def test_in_chunks_of_rows_and_tokens(monkeypatch):
    """16 rows at a time, the last time 8; 32 tokens at a time, the last time 8, fewer than torch._int_mm takes."""
    monkeypatch.setattr(module, "WEIGHT_BYTES", 16 * 256)
    monkeypatch.setattr(module, "TOKEN_MULTIPLE", 32)
    monkeypatch.setattr(module, "SUMS_BYTES", 1)
    check(activations(72, 256), packed_weight("Q5_0", (40, 256)), torch.linspace(-3, 3, 40))


def test_no_tokens_and_no_rows():
    assert module.run(torch.empty(0, 256), packed_weight("Q8_0", (8, 256)), None).shape == (0, 8)
    empty = packed_weight("Q8_0", (8, 256)).rows(0, 0)
    assert module.run(activations(17, 256), empty, None).shape == (17, 0)

"""Mode int8: its definition, its error on activations with outliers, and row scales that are kept."""

import dataclasses

import pytest
import torch

from wan_gguf.ops.dequantize import dequantize
from wan_gguf.ops.int8 import MIN_TOKENS, OUTLIERS, quantize_activations
from wan_gguf.ops.linear import linear
from wan_gguf.ops.packed import PackedWeight
from wan_gguf.ops.row_scales import row_scales
from wan_gguf.tests.loaders.build import packed_weight

MAX_ERROR = 1e-2  # the promise of mode int8


def activations(m: int, k: int, loud: int = 8) -> torch.Tensor:
    """Gaussian tokens with `loud` channels 20 times as large."""
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(m, k, generator=generator)
    x[:, torch.randperm(k, generator=generator)[:loud]] *= 20
    return x


def gaussian_weight(n: int, k: int) -> PackedWeight:
    """F16 weights: their own rounding is far below that of int8."""
    values = torch.randn(n, k, generator=torch.Generator().manual_seed(6)).half()
    return dataclasses.replace(packed_weight("F16", (n, k)), data=values.view(torch.uint8).view(-1))


def relative_error(found: torch.Tensor, exact: torch.Tensor) -> float:
    return ((found - exact).norm() / exact.norm()).item()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_error_with_eight_loud_channels(dtype):
    x, packed = activations(96, 3072).to(dtype), gaussian_weight(256, 3072)
    exact = x.double() @ dequantize(packed).double().T
    assert relative_error(linear(x, packed, None, "int8").double(), exact) <= MAX_ERROR


def test_kept_row_scales_change_nothing():
    x, packed = activations(39, 512), packed_weight("Q4_K", (33, 512))
    kept = dataclasses.replace(packed, row_scale=row_scales(packed))
    assert torch.equal(linear(x, kept, None, "int8"), linear(x, packed, None, "int8"))
    assert kept.rows(3, 7).row_scale.tolist() == kept.row_scale[3:7].tolist()


def test_row_scales_are_the_largest_weight_over_127():
    packed = packed_weight("Q6_K", (5, 256))
    assert torch.equal(row_scales(packed), dequantize(packed).abs().amax(1) / 127)


def test_a_row_and_a_token_of_zeros_give_zeros():
    packed = packed_weight("Q8_0", (4, 256))
    data = packed.data.clone().view(4, -1)
    data[2] = 0
    packed = dataclasses.replace(packed, data=data.view(-1))
    x = activations(33, 256)
    x[1] = 0
    y = linear(x, packed, None, "int8")
    assert torch.isfinite(y).all()
    assert not y[1].any()
    assert not y[:, 2].any()


def test_activations_by_hand():
    x = torch.zeros(2, OUTLIERS + 2)
    x[0, :OUTLIERS] = 1000.0
    x[:, OUTLIERS] = torch.tensor([127.0, -3.0])
    x[:, OUTLIERS + 1] = torch.tensor([-63.5, 1.0])
    found = quantize_activations(x)
    assert found.columns.tolist() == list(range(OUTLIERS))
    assert torch.equal(found.outliers, x[:, :OUTLIERS])
    assert found.scale.tolist() == [[1.0], [torch.tensor(3.0).div(127).item()]]
    assert found.q[:, OUTLIERS:].tolist() == [[127, -64], [-127, 42]]
    assert not found.q[:, :OUTLIERS].any()


@pytest.mark.parametrize("shape", [(256,), (0, 256), (2, 20, 256), (32, 1, 256)])
def test_shapes(shape):
    packed = packed_weight("Q4_0", (5, 256))
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    bias = torch.arange(5.0)
    y = linear(x, packed, bias, "int8")
    assert y.shape == (*shape[:-1], 5)
    if y.numel():
        exact = x.double() @ dequantize(packed).double().T + bias
        torch.testing.assert_close(y.double(), exact, rtol=0, atol=0.03 * (exact - bias).abs().max().item())


def test_rows_shorter_than_the_outliers_are_exact():
    packed = packed_weight("F32", (3, 8))
    x = activations(40, 8, 1)
    torch.testing.assert_close(linear(x, packed, None, "int8"), x @ dequantize(packed).T)


def test_a_few_tokens_are_exact():
    x, packed = activations(MIN_TOKENS, 512), packed_weight("Q4_K", (24, 512))
    assert torch.equal(linear(x[1:], packed, None, "int8"), linear(x[1:], packed, None, "exact"))
    assert not torch.equal(linear(x, packed, None, "int8"), linear(x, packed, None, "exact"))

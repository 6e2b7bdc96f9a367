"""linear() against F.linear with the dequantised weight, over odd shapes, strides and dtypes; and the dispatcher."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from wan_gguf.ops import dispatch
from wan_gguf.ops.backends.reference import linear as reference
from wan_gguf.ops.dequantize import dequantize
from wan_gguf.ops.formats import FORMATS
from wan_gguf.ops.kernel import LinearKernel
from wan_gguf.ops.linear import linear
from wan_gguf.tests.loaders.build import packed_weight

ALL = list(FORMATS)


def inputs(shape, dtype, seed=0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def check(x, packed, bias):
    """Three roundings: the weight to x.dtype at most (half a unit of each product), the sum, in any order, in float32
    (k * 2^-24 of the sum of the absolute products, the standard bound), and the result to x.dtype (half a unit; the
    bias likewise). The exact value is computed in float64."""
    weight, half_unit = dequantize(packed).double(), torch.finfo(x.dtype).eps / 2
    found = linear(x, packed, bias)
    exact = F.linear(x.double(), weight, None if bias is None else bias.double())
    absolute = F.linear(x.double().abs(), weight.abs(), None if bias is None else bias.double().abs())
    assert found.dtype == x.dtype
    assert found.shape == exact.shape
    bound = half_unit * exact.abs() + (half_unit * (1 + half_unit) + (packed.shape[1] + 2) * 2.0**-24) * absolute
    tiny = torch.finfo(x.dtype).smallest_normal  # results below it lose bits
    assert ((found.double() - exact).abs() <= bound + tiny).all()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("x_shape", "n"), [((256,), 3), ((1, 256), 1), ((7, 512), 33), ((2, 5, 256), 17), ((0, 256), 4), ((2, 0, 256), 4)]
)
@pytest.mark.parametrize("with_bias", [False, True])
def test_linear_equals_dense(name, dtype, x_shape, n, with_bias):
    packed = packed_weight(name, (n, x_shape[-1]))
    check(inputs(x_shape, dtype), packed, inputs((n,), torch.float32, 1) if with_bias else None)


@pytest.mark.parametrize("view", ["transposed", "sliced", "expanded"])
def test_input_that_is_not_contiguous(view):
    x = {
        "transposed": inputs((256, 6), torch.float32).t(),
        "sliced": inputs((6, 3, 512), torch.float32)[::2, :, ::2],
        "expanded": inputs((1, 256), torch.float32).expand(4, 256),
    }[view]
    assert view == "expanded" or not x.is_contiguous()
    check(x, packed_weight("Q4_K", (5, 256)), None)


@pytest.mark.parametrize("name", ["F16", "Q6_K"])
def test_rows_in_chunks(name, monkeypatch):
    """Scratch for four rows of 256 floats: 19 rows take five rounds, the last one short."""
    monkeypatch.setattr(reference, "SCRATCH_BYTES", 4 * 256 * 4)
    check(inputs((2, 3, 256), torch.float32), packed_weight(name, (19, 256)), inputs((19,), torch.float32, 1))


def test_gradient_reaches_the_input():
    x = inputs((3, 256), torch.float32).requires_grad_()
    packed = packed_weight("Q8_0", (5, 256))
    linear(x, packed).sum().backward()
    torch.testing.assert_close(x.grad, dequantize(packed).sum(0).expand(3, 256))


@pytest.mark.parametrize(
    ("x", "packed", "bias", "mode", "message"),
    [
        (torch.zeros(2, 255), packed_weight("Q8_0", (5, 256)), None, "exact", r"shape \(2, 255\); floats of shape"),
        (torch.zeros(2, 256).long(), packed_weight("Q8_0", (5, 256)), None, "exact", "torch.int64"),
        (torch.zeros(2, 256), packed_weight("Q8_0", (1, 5, 256)), None, "exact", r"two dimensions"),
        (torch.zeros(2, 256), packed_weight("Q8_0", (5, 256)), torch.zeros(4), "exact", r"bias: got shape \(4,\)"),
        (torch.zeros(2, 256), packed_weight("Q8_0", (5, 256)), None, "fast", "got 'fast'; exact, int8"),
        (torch.zeros(2, 256, device="meta"), packed_weight("Q8_0", (5, 256)), None, "exact", "input is on meta"),
    ],
    ids=["length", "integers", "rank", "bias", "mode", "device"],
)
def test_wrong_arguments_are_named(x, packed, bias, mode, message):
    with pytest.raises(ValueError, match=message):
        linear(x, packed, bias, mode)


def kernel(name: str, reason: str | None) -> LinearKernel:
    return LinearKernel(name, 1, lambda x, packed, bias, mode: reason, lambda x, packed, bias: x)


def test_the_first_kernel_that_does_not_refuse_runs_and_the_reasons_are_kept():
    x, packed = torch.zeros(1, 256), packed_weight("Q8_0", (5, 256))
    choice = dispatch.choose_linear(
        x, packed, kernels=(kernel("a", "needs CUDA"), kernel("b", None), kernel("c", None))
    )
    assert choice.kernel is not None
    assert choice.kernel.name == "b"
    assert choice.explain() == "b (a needs CUDA)"


def test_a_mode_no_backend_has_says_why():
    x, packed = torch.zeros(1, 256), packed_weight("Q8_0", (5, 256))
    choice = dispatch.choose_linear(x, packed, mode="int8", kernels=reference.KERNELS)
    assert choice.kernel is None
    assert choice.explain() == "no kernel (reference.linear computes mode exact only, not int8)"


def test_the_reference_kernels_are_found_and_come_last():
    assert dispatch.LINEAR_KERNELS[-1].name == "reference.linear"
    assert dispatch.DECODE_KERNELS[-1].name == "reference.decode"

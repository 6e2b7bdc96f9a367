"""Comparisons shared by the tests of the kernels."""

import torch

from wan_gguf.ops.backends.triton.formats import FUNCTIONS
from wan_gguf.ops.formats import FORMATS
from wan_gguf.ops.packed import PackedWeight

ALL = list(FUNCTIONS)
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
BITS = {4: torch.int32, 2: torch.int16}


def random_weight(name: str, n: int, k: int, seed: int = 0) -> PackedWeight:
    """Random bytes: every scale occurs, denormal, infinite and NaN ones too."""
    generator = torch.Generator().manual_seed(seed)
    data = torch.randint(0, 256, (n * FORMATS[name].row_bytes(k),), dtype=torch.uint8, generator=generator)
    return PackedWeight(data, FORMATS[name], (n, k))


def assert_same_bits(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal bits, the sign of zeros included; of a NaN only that it is one."""
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    bits = BITS[found.element_size()]
    same = (found.view(bits) == expected.view(bits)) | (found.isnan() & expected.isnan())
    assert same.all(), f"{int((~same).sum())} of {same.numel()} differ"


def assert_linear(found: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
    """x (..., k) and weight (n, k) in one dtype, found their product in that dtype, summed in float32 in any order.

    So it is off by at most one unit of the dtype plus, from the order, (k + 2) * 2^-24 of the sum of the absolute
    products (the standard bound, computed here in float64).
    """
    exact = x.double() @ weight.double().T
    absolute = x.double().abs() @ weight.double().abs().T
    if bias is not None:
        exact, absolute = exact + bias.to(x.dtype).double(), absolute + bias.double().abs()
    assert found.dtype == x.dtype
    assert found.shape == exact.shape
    bound = torch.finfo(x.dtype).eps * exact.abs() + (weight.shape[1] + 2) * 2.0**-24 * absolute
    assert ((found.double() - exact).abs() <= bound).all()

"""Mode int8 on CPUs with AVX2 or AVX512: the fused product in 16-bit pairs, summed exactly in 32 bits."""

import torch

from ...kernel import LinearKernel
from ...packed import PackedWeight
from . import fused


def refuses(x: torch.Tensor, packed: PackedWeight, bias: torch.Tensor | None, mode: str) -> str | None:
    """None, or why this kernel cannot run the call."""
    return fused.refuses(x, packed, mode, "int8")


def run(x: torch.Tensor, packed: PackedWeight, bias: torch.Tensor | None) -> torch.Tensor:
    """(..., k) float, (n, k) packed, (n,) -> (..., n) in x.dtype."""
    return fused.int8(x, packed, bias)


KERNELS = [LinearKernel(name="cpu.int8_linear", priority=20, refuses=refuses, run=run)]

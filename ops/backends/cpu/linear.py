"""Mode exact on the CPU: the fused product, weights decoded to float32 and summed in float32, whatever x's dtype.

No decoded weight is ever written to memory as a whole, and a token's result does not depend on its neighbours.
"""

import torch

from ...kernel import LinearKernel
from ...packed import PackedWeight
from . import fused


def refuses(x: torch.Tensor, packed: PackedWeight, bias: torch.Tensor | None, mode: str) -> str | None:
    """None, or why this kernel cannot run the call."""
    return fused.refuses(x, packed, mode, "exact")


def run(x: torch.Tensor, packed: PackedWeight, bias: torch.Tensor | None) -> torch.Tensor:
    """(..., k) float, (n, k) packed, (n,) -> (..., n) in x.dtype."""
    return fused.exact(x, packed, bias)


KERNELS = [LinearKernel(name="cpu.linear", priority=20, refuses=refuses, run=run)]

"""Linear layer in pure torch: decode some rows of the weight to x's dtype, multiply with torch's own GEMM, repeat."""

import torch

from ...kernel import LinearKernel
from ...packed import PackedWeight
from ...slabs import linear_by_slabs, slab_rows
from .decode import decode

# Bytes of decoded weight held at a time. Large enough that the GEMM loses nothing by the split.
SCRATCH_BYTES = 64 << 20


def refuses(x: torch.Tensor, packed: PackedWeight, bias: torch.Tensor | None, mode: str) -> str | None:
    """None, or why this kernel cannot run the call."""
    return None if mode == "exact" else f"computes mode exact only, not {mode}"


def run(x: torch.Tensor, packed: PackedWeight, bias: torch.Tensor | None) -> torch.Tensor:
    """(..., k) float, (n, k) packed, (n,) -> (..., n) in x.dtype."""
    rows = slab_rows(packed, x.dtype, SCRATCH_BYTES)
    return linear_by_slabs(x, packed, bias, rows, lambda part: decode(part, x.dtype))


KERNELS = [LinearKernel(name="reference.linear", priority=0, refuses=refuses, run=run)]

"""Linear layer in pure torch: decode some rows of the weight to x's dtype, multiply with torch's own GEMM, repeat."""

import torch
import torch.nn.functional as F  # noqa: N812

from ...kernel import LinearKernel
from ...packed import PackedWeight
from .decode import decode

# Bytes of decoded weight held at a time. Large enough that the GEMM loses nothing by the split.
SCRATCH_BYTES = 64 << 20


def refuses(x: torch.Tensor, packed: PackedWeight, bias: torch.Tensor | None, mode: str) -> str | None:
    """None, or why this kernel cannot run the call."""
    return None if mode == "exact" else f"computes mode exact only, not {mode}"


def run(x: torch.Tensor, packed: PackedWeight, bias: torch.Tensor | None) -> torch.Tensor:
    """(..., k) float, (n, k) packed, (n,) -> (..., n) in x.dtype."""
    n, k = packed.shape
    bias = None if bias is None else bias.to(x.dtype)
    rows = max(1, SCRATCH_BYTES // max(1, k * x.element_size()))
    if n <= rows:
        return F.linear(x, decode(packed, x.dtype), bias)
    out = x.new_empty((*x.shape[:-1], n))
    for start in range(0, n, rows):
        stop = min(start + rows, n)
        weight = decode(packed.rows(start, stop), x.dtype)  # (rows, k)
        out[..., start:stop] = F.linear(x, weight, None if bias is None else bias[start:stop])
    return out


KERNELS = [LinearKernel(name="reference.linear", priority=0, refuses=refuses, run=run)]

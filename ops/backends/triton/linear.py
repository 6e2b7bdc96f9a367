"""triton.linear: decode to x's dtype into scratch memory, then the vendor's GEMM (cuBLAS, hipBLAS) through torch."""

import torch
import torch.nn.functional as F  # noqa: N812

from ...kernel import LinearKernel
from ...packed import PackedWeight
from .decode import DTYPES, decode
from .machine import refuses_weight

# Bytes of decoded weight held at a time. The largest layer of Wan in 16-bit numbers, 13824 x 5120, takes 142 MB.
SCRATCH_BYTES = 192 << 20


def refuses(x: torch.Tensor, packed: PackedWeight, bias: torch.Tensor | None, mode: str) -> str | None:
    """None, or why this kernel cannot run the call."""
    if mode != "exact":
        return f"computes mode exact only, not {mode}"
    if x.dtype not in DTYPES:
        return f"takes float32, bfloat16 and float16, not {x.dtype}"
    return refuses_weight(packed)


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


KERNELS = [LinearKernel(name="triton.linear", priority=10, refuses=refuses, run=run)]

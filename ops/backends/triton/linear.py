"""triton.linear: decode to x's dtype into scratch memory, then the vendor's GEMM (cuBLAS, hipBLAS) through torch."""

import torch

from ...kernel import LinearKernel
from ...packed import PackedWeight
from ...slabs import linear_by_slabs, slab_rows
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
    rows = slab_rows(packed, x.dtype, SCRATCH_BYTES)
    return linear_by_slabs(x, packed, bias, rows, lambda part: decode(part, x.dtype))


KERNELS = [LinearKernel(name="triton.linear", priority=10, refuses=refuses, run=run)]

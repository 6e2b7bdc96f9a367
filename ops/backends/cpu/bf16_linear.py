"""Mode exact for bfloat16 activations on CPUs that multiply them natively: decode to bfloat16, then oneDNN's GEMM.

The weight is decoded in slabs that stay in the last-level cache, so a slab is read back from there.
"""

import torch

from ...kernel import LinearKernel
from ...native import has_native_bf16
from ...packed import PackedWeight
from ...slabs import linear_by_slabs, slab_rows
from . import decode

SLAB_BYTES = 16 << 20
MIN_TOKENS = 32  # with fewer the fused product, which decodes once and writes nothing, is faster


def refuses(x: torch.Tensor, packed: PackedWeight, bias: torch.Tensor | None, mode: str) -> str | None:
    """None, or why this kernel cannot run the call."""
    if mode != "exact":
        return "computes mode exact only"
    if x.device.type != "cpu":
        return "runs on the CPU only"
    if x.dtype != torch.bfloat16:
        return "takes bfloat16 only"
    if not has_native_bf16():
        return "needs a CPU with AVX512-BF16"
    if x.requires_grad and torch.is_grad_enabled():
        return "computes no gradients"
    if x.numel() < MIN_TOKENS * packed.shape[1]:
        return f"takes {MIN_TOKENS} tokens or more"
    return decode.refuses(packed, x.dtype)


def run(x: torch.Tensor, packed: PackedWeight, bias: torch.Tensor | None) -> torch.Tensor:
    """(..., k) bfloat16, (n, k) packed, (n,) -> (..., n) bfloat16."""
    n, k = packed.shape
    rows = slab_rows(packed, x.dtype, SLAB_BYTES)
    slab = torch.empty(min(n, rows), k, dtype=x.dtype)

    def decode_rows(part: PackedWeight) -> torch.Tensor:
        weight = slab[: part.shape[0]]
        decode.run(part, weight)
        return weight

    return linear_by_slabs(x, packed, bias, rows, decode_rows)


KERNELS = [LinearKernel(name="cpu.bf16_linear", priority=30, refuses=refuses, run=run)]

"""Mode exact for bfloat16 activations on CPUs that multiply them natively: decode to bfloat16, then oneDNN's GEMM.

The weight is decoded in slabs that stay in the last-level cache, so a slab is read back from there.
"""

import torch
import torch.nn.functional as F  # noqa: N812

from ...kernel import LinearKernel
from ...native import has_native_bf16
from ...packed import PackedWeight
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
    bias = None if bias is None else bias.to(x.dtype)
    rows = max(1, min(n, SLAB_BYTES // (2 * k)))
    slab = torch.empty(rows, k, dtype=x.dtype)
    out = x.new_empty((*x.shape[:-1], n))
    for start in range(0, n, rows):
        stop = min(start + rows, n)
        weight = slab[: stop - start]
        decode.run(packed.rows(start, stop), weight)
        out[..., start:stop] = F.linear(x, weight, None if bias is None else bias[start:stop])
    return out


KERNELS = [LinearKernel(name="cpu.bf16_linear", priority=30, refuses=refuses, run=run)]

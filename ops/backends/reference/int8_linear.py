"""Mode int8 in pure torch: the integers of `ops.int8`, multiplied as float32. The oracle of the others; not fast."""

import torch
import torch.nn.functional as F  # noqa: N812

from ...int8 import QMAX, Activations, quantize_activations, scale_of
from ...kernel import LinearKernel
from ...packed import PackedWeight
from .decode import decode
from .linear import SCRATCH_BYTES


def refuses(x: torch.Tensor, packed: PackedWeight, bias: torch.Tensor | None, mode: str) -> str | None:
    """None, or why this kernel cannot run the call."""
    return None if mode == "int8" else f"computes mode int8 only, not {mode}"


def run(x: torch.Tensor, packed: PackedWeight, bias: torch.Tensor | None) -> torch.Tensor:
    """(..., k) float, (n, k) packed, (n,) -> (..., n) in x.dtype."""
    n, k = packed.shape
    tokens = x.reshape(-1, k)
    if tokens.shape[0] == 0 or n == 0:
        return x.new_empty((*x.shape[:-1], n))
    a = quantize_activations(tokens)
    rows = max(1, SCRATCH_BYTES // (4 * k))
    parts = [_part(a, packed.rows(at, min(at + rows, n))) for at in range(0, n, rows)]
    y = torch.cat(parts, dim=1)
    y = y if bias is None else y + bias.float()
    return y.to(x.dtype).view(*x.shape[:-1], n)


def _part(a: Activations, packed: PackedWeight) -> torch.Tensor:
    """(m, rows) float32 for some rows of the weight."""
    weight = decode(packed, torch.float32)
    scales = scale_of(weight.abs().amax(1)) if packed.row_scale is None else packed.row_scale
    q = (weight * scales.reciprocal()[:, None]).round_().clamp_(-QMAX, QMAX)
    y = F.linear(a.q.float(), q) * a.scale * scales
    return y + F.linear(a.outliers.float(), weight[:, a.columns])


KERNELS = [LinearKernel(name="reference.int8_linear", priority=0, refuses=refuses, run=run)]

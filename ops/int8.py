"""Mode int8: what every backend computes, whatever it multiplies with.

    y[m, n] = sx[m] * sw[n] * sum_k qx[m, k] * qw[n, k]  +  sum_{k in O} x[m, k] * w[n, k]  +  bias[n]

    sw[n] = max_k |w[n, k]| / 127                   found once per weight (`row_scales.py`)
    qw    = round(w * (1 / sw)), half to even, in -127..127: float32, the reciprocal first
    O     = the OUTLIERS columns of x with the largest |x| over all tokens; 0 in qx, exact in the second sum
    sx[m] = max_{k not in O} |x[m, k]| / 127, qx = round(x * (1 / sx))

Rounding alone costs a relative error of 1.2e-2 of Gaussian outputs. A few channels with large activations, which video
transformers have, would spoil the scale of every token; kept apart they cost a GEMM of OUTLIERS columns (the idea of
LLM.int8(), Dettmers et al. 2022, with a fixed number of columns, so the cost does not depend on the data).

Calls of fewer than MIN_TOKENS tokens (time embeddings, modulation) are computed as in mode exact: there is nothing to
win, and these layers steer all others.
"""

from dataclasses import dataclass

import torch

OUTLIERS = 16
QMAX = 127
MIN_TOKENS = 32


@dataclass(frozen=True)
class Activations:
    """x (m, k) taken apart: q (m, k) int8, scale (m, 1) float32, columns (o,) int64 ascending, outliers (m, o)."""

    q: torch.Tensor
    scale: torch.Tensor
    columns: torch.Tensor
    outliers: torch.Tensor


def quantize_activations(x: torch.Tensor) -> Activations:
    """(m, k) float -> Activations. With k <= OUTLIERS every column is an outlier."""
    columns = x.abs().amax(0).float().topk(min(OUTLIERS, x.shape[1])).indices.sort().values
    outliers = x[:, columns]
    rest = x.float().index_fill(1, columns, 0.0)
    scale = scale_of(rest.abs().amax(1, keepdim=True))
    return Activations(
        (rest * scale.reciprocal()).round_().clamp_(-QMAX, QMAX).to(torch.int8), scale, columns, outliers
    )


def scale_of(peak: torch.Tensor) -> torch.Tensor:
    """The largest |value| of a row or token -> what its values are divided by; 1 where all are 0."""
    # by a tensor: by a plain number CUDA multiplies with the reciprocal, which gives other bits than a CPU
    return torch.where(peak > 0, peak / torch.full_like(peak, QMAX), torch.ones_like(peak))

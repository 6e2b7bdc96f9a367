"""Mode int8's activations in two passes over x, with the numbers of `ops.int8.quantize_activations`.

The first pass finds the largest |x| of every column, and with torch the columns that are kept apart; the second reads
each token twice, the second time from cache: its scale, then its integers and its kept values.
"""

# ruff: noqa: N803 - compile-time arguments are in capitals, as in all Triton code

from dataclasses import dataclass

import torch

from ...int8 import OUTLIERS
from .decode_tile import EXACT
from .language import tl, triton
from .machine import on_device
from .rounding import reciprocal, round_to_int8, scale_of

COLUMN_TILE, TOKEN_TILE = 128, 512  # of the first pass: tokens that one program walks through
TOKEN_STEP = 16
K_TILE = 2048  # of the second pass


@dataclass(frozen=True)
class QuantizedActivations:
    """x (m, k) taken apart: q (m, k) int8, scale (m,) float32, columns (OUTLIERS,) int64, kept (m, OUTLIERS) float32.

    kept[:, j] is column columns[j] of x, 0 in q; the order of the columns does not matter.
    """

    q: torch.Tensor
    scale: torch.Tensor
    columns: torch.Tensor
    kept: torch.Tensor


@triton.jit(do_not_specialize=["m"])
def column_peaks_kernel(x, peaks, m, k, COLUMNS: tl.constexpr, TOKENS: tl.constexpr, STEP: tl.constexpr):
    """(m, k) x -> (cdiv(m, TOKENS), k) float32: the largest |x| of each column in each stretch of TOKENS tokens."""
    stretch = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    found = tl.zeros((STEP, COLUMNS), tl.float32)
    for step in range(0, TOKENS, STEP):
        token = stretch * TOKENS + step + tl.arange(0, STEP)[:, None]
        value = tl.load(x + token * k + column, mask=(token < m) & (column < k), other=0.0)
        found = tl.maximum(found, tl.abs(value.to(tl.float32)))
    to = peaks + stretch * k + column
    tl.store(to, tl.max(found, axis=0)[None, :], mask=column < k)


@triton.jit
def quantize_kernel(x, columns, apart, q, scales, kept, k, K_TILE: tl.constexpr, KEPT: tl.constexpr):
    """One program per token of x (m, k): its scale, its k int8 and its KEPT kept values; apart (k,) is 1 for those."""
    token = tl.program_id(0).to(tl.int64)
    j = tl.arange(0, KEPT)
    tl.store(kept + token * KEPT + j, tl.load(x + token * k + tl.load(columns + j)).to(tl.float32))
    c = tl.arange(0, K_TILE)[None, :]
    peaks = tl.zeros((1, K_TILE), tl.float32)
    for at in range(0, k, K_TILE):
        inside = at + c < k
        value = tl.load(x + token * k + at + c, mask=inside, other=0.0).to(tl.float32)
        taken = tl.load(apart + at + c, mask=inside, other=1) == 0
        peaks = tl.maximum(peaks, tl.where(taken, tl.abs(value), 0.0))
    scale = scale_of(tl.max(peaks, axis=1))
    tl.store(scales + token + tl.arange(0, 1), scale)
    inverse = reciprocal(scale)[:, None]
    for at in range(0, k, K_TILE):
        inside = at + c < k
        value = tl.load(x + token * k + at + c, mask=inside, other=0.0).to(tl.float32)
        taken = tl.load(apart + at + c, mask=inside, other=1) == 0
        tl.store(q + token * k + at + c, round_to_int8(tl.where(taken, value, 0.0) * inverse), mask=inside)


def column_peaks(x: torch.Tensor) -> torch.Tensor:
    """(m, k) contiguous, m > 0 -> (k,) float32, the largest |x| of every column."""
    m, k = x.shape
    stretches = -(-m // TOKEN_TILE)
    peaks = torch.empty((stretches, k), dtype=torch.float32, device=x.device)
    with on_device(x.device):
        column_peaks_kernel[(stretches, -(-k // COLUMN_TILE))](
            x, peaks, m, k, COLUMNS=COLUMN_TILE, TOKENS=TOKEN_TILE, STEP=TOKEN_STEP, **EXACT
        )
    return peaks.amax(0)


def quantize(x: torch.Tensor) -> QuantizedActivations:
    """(m, k) contiguous float, m > 0, k >= OUTLIERS -> QuantizedActivations."""
    m, k = x.shape
    columns = column_peaks(x).topk(OUTLIERS, sorted=False).indices
    apart = torch.zeros(k, dtype=torch.int8, device=x.device).index_fill_(0, columns, 1)
    q = torch.empty((m, k), dtype=torch.int8, device=x.device)
    scale = torch.empty(m, dtype=torch.float32, device=x.device)
    kept = torch.empty((m, OUTLIERS), dtype=torch.float32, device=x.device)
    with on_device(x.device):
        quantize_kernel[(m,)](x, columns, apart, q, scale, kept, k, K_TILE=K_TILE, KEPT=OUTLIERS, **EXACT)
    return QuantizedActivations(q, scale, columns, kept)

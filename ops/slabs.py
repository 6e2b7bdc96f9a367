"""A linear layer some rows of the weight at a time: decode them, multiply with torch's own GEMM, repeat.

So the decoded weight never exists as a whole.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812

from .packed import PackedWeight


def slab_rows(packed: PackedWeight, dtype: torch.dtype, scratch_bytes: int) -> int:
    """How many rows of an (n, k) weight fit `scratch_bytes` when decoded to dtype; 1 at least."""
    return max(1, scratch_bytes // max(1, packed.shape[1] * dtype.itemsize))


def linear_by_slabs(
    x: torch.Tensor,
    packed: PackedWeight,
    bias: torch.Tensor | None,
    rows: int,
    decode: Callable[[PackedWeight], torch.Tensor],
) -> torch.Tensor:
    """(..., k) float, (n, k) packed, (n,) -> (..., n) in x.dtype; `decode` gets up to `rows` rows at a time.

    What it returns, in x.dtype, may lie where the rows before lay, unless gradients are wanted.
    """
    n = packed.shape[0]
    bias = None if bias is None else bias.to(x.dtype)
    if n <= rows:
        return F.linear(x, decode(packed), bias)
    out = x.new_empty((*x.shape[:-1], n))
    for start in range(0, n, rows):
        stop = min(start + rows, n)
        part_bias = None if bias is None else bias[start:stop]
        out[..., start:stop] = F.linear(x, decode(packed.rows(start, stop)), part_bias)
    return out

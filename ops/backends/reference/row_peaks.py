"""The largest |w| of each row in pure torch: decoded some rows at a time."""

import torch

from ...kernel import RowPeaksKernel
from ...packed import PackedWeight
from .decode import decode

CHUNK_ELEMS = 1 << 22  # decoded at a time: 16 MiB


def refuses(packed: PackedWeight) -> str | None:
    """Never refuses."""
    return None


def run(packed: PackedWeight) -> torch.Tensor:
    """(n, k) packed -> (n,) float32."""
    n, k = packed.shape
    step = max(1, CHUNK_ELEMS // max(1, k))
    return torch.cat(
        [decode(packed.rows(at, min(at + step, n)), torch.float32).abs_().amax(1) for at in range(0, n, step)]
    )


KERNELS = [RowPeaksKernel(name="reference.row_peaks", priority=0, refuses=refuses, run=run)]

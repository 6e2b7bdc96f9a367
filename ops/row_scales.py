"""What mode int8 divides each row of a weight by; found once per weight by whoever keeps it."""

import torch

from .dequantize import dequantize
from .int8 import scale_of
from .packed import PackedWeight

CHUNK_ELEMS = 1 << 22  # decoded at a time: 16 MiB


def row_scales(packed: PackedWeight) -> torch.Tensor:
    """(n, k) packed -> (n,) float32: the largest |w| of each row / 127; 1 for a row of zeros."""
    n, k = packed.shape
    step = max(1, CHUNK_ELEMS // max(1, k))
    peaks = [dequantize(packed.rows(at, min(at + step, n))).abs().amax(1) for at in range(0, n, step)]
    return scale_of(torch.cat(peaks))

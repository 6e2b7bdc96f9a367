"""What mode int8 divides each row of a weight by; found once per weight by whoever keeps it."""

import torch

from .dispatch import choose_row_peaks
from .int8 import scale_of
from .packed import PackedWeight


def row_scales(packed: PackedWeight) -> torch.Tensor:
    """(n, k) packed -> (n,) float32: the largest |w| of each row / 127; 1 for a row of zeros."""
    choice = choose_row_peaks(packed)
    if choice.kernel is None:
        raise ValueError(f"row scales of {packed.format.name} on {packed.device}: {choice.explain()}")
    return scale_of(choice.kernel.run(packed))

"""Gives stored tensors their logical shapes."""

import torch

from ..ops.dequantize import dequantize
from ..ops.formats import FORMATS
from ..ops.packed import PackedWeight
from .fit import check_tensors, fits, recorded_shapes

__all__ = ["check_tensors", "fits", "recorded_shapes", "restore"]


def restore(packed: PackedWeight, expected: tuple[int, ...]) -> PackedWeight:
    """The weight under its logical shape; both must `fit`. Where blocks would straddle rows it is decoded to F32."""
    if packed.shape == expected:
        return packed
    try:
        return packed.reshape(expected)
    except ValueError:  # a folded convolution in a block type: small, and never a matmul weight
        values = dequantize(packed).view(-1)
        return PackedWeight(values.view(torch.uint8), FORMATS["F32"], expected)

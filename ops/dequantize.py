"""Packed weights to real numbers, whole or by rows.

In float32 the values are exactly those of gguf-py's `dequantize`; other dtypes are those values rounded once.
"""

import torch

from . import compiled, eager
from .packed import PackedWeight


def dequantize(packed: PackedWeight, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """The weight as a fresh tensor of packed.shape on packed.device."""
    out = torch.empty(packed.shape, dtype=dtype, device=packed.device)
    dequantize_into(out, packed)
    return out


def dequantize_into(out: torch.Tensor, packed: PackedWeight) -> None:
    """Decode the weight into `out`: contiguous, of packed.shape, on packed.device."""
    eager.decode_into(out, packed)


def dequantize_rows(packed: PackedWeight, rows: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Gather rows of a 2-D weight, as an embedding does: (n, k) packed, integer rows of any shape -> rows.shape + (k,).

    Only the rows asked for are read and decoded. Raises IndexError for a row outside 0..n-1.
    """
    if len(packed.shape) != 2:
        raise ValueError(f"dequantize_rows: the weight has shape {packed.shape}; two dimensions are allowed")
    run = compiled.dequantize_rows if torch.compiler.is_compiling() else eager.decode_rows
    return run(packed, rows, dtype)

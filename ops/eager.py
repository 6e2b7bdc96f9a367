"""What `linear` and `dequantize_rows` do when they run: ask the dispatcher, run its kernel. Checks come before."""

import torch

from .dispatch import choose_decode, choose_linear
from .packed import PackedWeight


def linear(x: torch.Tensor, packed: PackedWeight, bias: torch.Tensor | None, mode: str) -> torch.Tensor:
    """As `linear.linear`. Raises ValueError when no backend can run the call."""
    choice = choose_linear(x, packed, bias, mode)
    if choice.kernel is None:
        raise ValueError(f"linear {packed.format.name} on {x.device} in mode {mode}: {choice.explain()}")
    return choice.kernel.run(x, packed, bias)


def decode_into(out: torch.Tensor, packed: PackedWeight) -> None:
    """Decode the weight into `out`: contiguous, of packed.shape, on packed.device."""
    choice = choose_decode(packed, out.dtype)
    if choice.kernel is None:
        raise ValueError(f"dequantize {packed.format.name} on {packed.device} to {out.dtype}: {choice.explain()}")
    choice.kernel.run(packed, out)


def decode_rows(packed: PackedWeight, rows: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(n, k) packed, integer rows of any shape -> rows.shape + (k,) dtype. Raises IndexError for a row outside."""
    n, k = packed.shape
    table = packed.data.view(n, packed.format.row_bytes(k))
    index = rows.to(device=packed.device, dtype=torch.int64).reshape(-1)
    picked = table.index_select(0, index).view(-1)  # (rows.numel() * row_bytes,)
    out = torch.empty((*rows.shape, k), dtype=dtype, device=packed.device)
    decode_into(out, PackedWeight(picked, packed.format, (*rows.shape, k)))
    return out

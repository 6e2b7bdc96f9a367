"""The linear layer on a packed weight; every matmul of the models goes through here."""

import torch

from . import compiled, eager
from .dispatch import MODES
from .int8 import MIN_TOKENS
from .packed import PackedWeight


def _check(x: torch.Tensor, packed: PackedWeight, bias: torch.Tensor | None, mode: str) -> None:
    if mode not in MODES:
        raise ValueError(f"linear mode: got {mode!r}; {', '.join(MODES)} are allowed")
    if len(packed.shape) != 2:
        raise ValueError(f"linear weight: got shape {packed.shape}; two dimensions (n, k) are allowed")
    n, k = packed.shape
    if not x.is_floating_point() or x.dim() == 0 or x.shape[-1] != k:
        raise ValueError(
            f"linear input: got {x.dtype} of shape {tuple(x.shape)}; floats of shape (..., {k}) are allowed"
        )
    if bias is not None and tuple(bias.shape) != (n,):
        raise ValueError(f"linear bias: got shape {tuple(bias.shape)}; ({n},) is allowed")
    if x.device != packed.device:
        raise ValueError(f"linear: the input is on {x.device}, the weight on {packed.device}; move one of them")


def linear(
    x: torch.Tensor, packed: PackedWeight, bias: torch.Tensor | None = None, mode: str = "exact"
) -> torch.Tensor:
    """x (..., k) float, packed (n, k), bias (n,) -> (..., n) in x.dtype.

    mode "exact" multiplies by the weight rounded to x.dtype, or more precise, with float32 sums; "int8" computes what
    `int8.py` says.
    Raises ValueError for shapes that do not fit and when no backend can run the call, with every backend's reason.
    """
    _check(x, packed, bias, mode)
    if mode == "int8" and x.numel() < MIN_TOKENS * packed.shape[1]:
        mode = "exact"
    run = compiled.linear if torch.compiler.is_compiling() else eager.linear
    return run(x, packed, bias, mode)

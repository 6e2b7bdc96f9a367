"""The linear layer on a packed weight; every matmul of the models goes through here."""

import torch

from .dispatch import MODES, choose_linear
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

    mode "exact" multiplies by the weight rounded to x.dtype; "int8" lets a backend use an integer GEMM.
    Raises ValueError for shapes that do not fit and when no backend can run the call, with every backend's reason.
    """
    _check(x, packed, bias, mode)
    choice = choose_linear(x, packed, bias, mode)
    if choice.kernel is None:
        raise ValueError(f"linear {packed.format.name} on {x.device} in mode {mode}: {choice.explain()}")
    return choice.kernel.run(x, packed, bias)

"""When the fused products can run; they themselves are in `gemm`, which needs llvmlite."""

import torch

from ...int8 import OUTLIERS
from ...packed import PackedWeight
from . import machine
from .tile import K_BLOCK, ROW_GROUP

try:
    from .formats import DECODERS
    from .gemm import exact, int8, integer_kind
    from .kinds import Float32, Kind
    from .numbers import SIZES
except ImportError:  # llvmlite is not there; `refuses` says so
    pass

__all__ = ["exact", "int8", "refuses"]


def refuses(x: torch.Tensor, packed: PackedWeight, mode: str, own_mode: str) -> str | None:
    """None, or why the fused product of `own_mode` cannot run the call."""
    if mode != own_mode:
        return f"computes mode {own_mode} only"
    if x.device.type != "cpu":
        return "runs on the CPU only"
    return machine.problem() or _refuses_numbers(x, packed) or _kind(own_mode).refuses(machine.machine())


def _kind(mode: str) -> "Kind":
    return Float32() if mode == "exact" else integer_kind()


def _refuses_numbers(x: torch.Tensor, packed: PackedWeight) -> str | None:
    n, k = packed.shape
    if packed.format.name not in DECODERS:
        return f"has no {packed.format.name}"
    if str(x.dtype).removeprefix("torch.") not in SIZES:
        return f"takes {', '.join(SIZES)} only"
    if x.requires_grad and torch.is_grad_enabled():
        return "computes no gradients"
    if n % ROW_GROUP or k % K_BLOCK or k < max(K_BLOCK, OUTLIERS) or not x.numel():
        return f"takes whole groups of {ROW_GROUP} rows and {K_BLOCK} columns"
    return None

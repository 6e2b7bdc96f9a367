"""Chooses the kernel for a call: the first that does not refuse, highest priority first; and can say why.

A backend is a folder in `backends/`; each of its modules that exports KERNELS contributes them.
"""

import importlib
import pkgutil
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

from . import backends
from .kernel import DecodeKernel, LinearKernel, RowPeaksKernel
from .packed import PackedWeight

MODES = ("exact", "int8")
OPTIONAL_PACKAGES = ("llvmlite",)
Kernel = TypeVar("Kernel", LinearKernel, DecodeKernel, RowPeaksKernel)


@dataclass(frozen=True)
class Choice(Generic[Kernel]):
    """The kernel that will run (None when all refuse) and the ones that refused before it, with their reasons."""

    kernel: Kernel | None
    refused: tuple[tuple[str, str], ...]

    def explain(self) -> str:
        """One line for a log or `inspect`."""
        taken = self.kernel.name if self.kernel else "no kernel"
        reasons = "; ".join(f"{name} {reason}" for name, reason in self.refused)
        return f"{taken} ({reasons})" if reasons else taken


def _discover() -> list[LinearKernel | DecodeKernel | RowPeaksKernel]:
    found: list[LinearKernel | DecodeKernel | RowPeaksKernel] = []
    for info in pkgutil.walk_packages(backends.__path__, f"{backends.__name__}."):
        try:
            module = importlib.import_module(info.name)
        except ModuleNotFoundError as error:  # what only such a package can build; the kernels that need it refuse
            if (error.name or "").partition(".")[0] not in OPTIONAL_PACKAGES:
                raise
            continue
        found += getattr(module, "KERNELS", [])
    return sorted(found, key=lambda kernel: (-kernel.priority, kernel.name))


_FOUND = _discover()
LINEAR_KERNELS: tuple[LinearKernel, ...] = tuple(kernel for kernel in _FOUND if isinstance(kernel, LinearKernel))
DECODE_KERNELS: tuple[DecodeKernel, ...] = tuple(kernel for kernel in _FOUND if isinstance(kernel, DecodeKernel))
ROW_PEAKS_KERNELS = tuple(kernel for kernel in _FOUND if isinstance(kernel, RowPeaksKernel))


def choose_linear(
    x: torch.Tensor,
    packed: PackedWeight,
    bias: torch.Tensor | None = None,
    mode: str = "exact",
    kernels: Iterable[LinearKernel] = LINEAR_KERNELS,
) -> Choice[LinearKernel]:
    """The first of `kernels` that computes this linear layer."""
    return _first((kernel, kernel.refuses(x, packed, bias, mode)) for kernel in kernels)


def choose_decode(
    packed: PackedWeight, dtype: torch.dtype, kernels: Iterable[DecodeKernel] = DECODE_KERNELS
) -> Choice[DecodeKernel]:
    """The first of `kernels` that decodes this weight to this dtype."""
    return _first((kernel, kernel.refuses(packed, dtype)) for kernel in kernels)


def choose_row_peaks(
    packed: PackedWeight, kernels: Iterable[RowPeaksKernel] = ROW_PEAKS_KERNELS
) -> Choice[RowPeaksKernel]:
    """The first of `kernels` that finds the peaks of this weight's rows."""
    return _first((kernel, kernel.refuses(packed)) for kernel in kernels)


def _first(answers: Iterable[tuple[Kernel, str | None]]) -> Choice[Kernel]:
    refused: list[tuple[str, str]] = []
    for kernel, reason in answers:
        if reason is None:
            return Choice(kernel, tuple(refused))
        refused.append((kernel.name, reason))
    return Choice(None, tuple(refused))

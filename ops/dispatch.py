"""Chooses the kernel for a call: the first that does not refuse, highest priority first; and can say why.

A backend is a folder in `backends/`; each of its modules that exports KERNELS contributes them.
"""

import importlib
import pkgutil
from dataclasses import dataclass

import torch

from . import backends
from .kernel import LinearKernel
from .packed import PackedWeight

MODES = ("exact", "int8")


@dataclass(frozen=True)
class Choice:
    """The kernel that will run (None when all refuse) and the ones that refused before it, with their reasons."""

    kernel: LinearKernel | None
    refused: tuple[tuple[str, str], ...]

    def explain(self) -> str:
        """One line for a log or `inspect`."""
        taken = self.kernel.name if self.kernel else "no kernel"
        reasons = "; ".join(f"{name} {reason}" for name, reason in self.refused)
        return f"{taken} ({reasons})" if reasons else taken


def _discover() -> tuple[LinearKernel, ...]:
    found: list[LinearKernel] = []
    for info in pkgutil.walk_packages(backends.__path__, f"{backends.__name__}."):
        found += getattr(importlib.import_module(info.name), "KERNELS", [])
    return tuple(sorted(found, key=lambda kernel: (-kernel.priority, kernel.name)))


KERNELS = _discover()


def choose(
    x: torch.Tensor,
    packed: PackedWeight,
    bias: torch.Tensor | None = None,
    mode: str = "exact",
    kernels: tuple[LinearKernel, ...] = KERNELS,
) -> Choice:
    """The first of `kernels` that does not refuse this call."""
    refused: list[tuple[str, str]] = []
    for kernel in kernels:
        reason = kernel.refuses(x, packed, bias, mode)
        if reason is None:
            return Choice(kernel, tuple(refused))
        refused.append((kernel.name, reason))
    return Choice(None, tuple(refused))

"""What a backend offers to the dispatcher: kernels that decode a weight, multiply by one, or find its peaks.

`refuses` returns None or, in a few words, why the kernel cannot run that call. It must be cheap and look at shapes,
dtypes, devices, formats and the machine only, never at free memory. Of the kernels that do not refuse, the one with the
highest `priority` runs.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from .packed import PackedWeight


@dataclass(frozen=True)
class LinearKernel:
    """One way to compute a linear layer: `run(x, packed, bias)`, asked before with `refuses(x, packed, bias, mode)`."""

    name: str
    priority: int
    refuses: Callable[[torch.Tensor, PackedWeight, torch.Tensor | None, str], str | None]
    run: Callable[[torch.Tensor, PackedWeight, torch.Tensor | None], torch.Tensor]


@dataclass(frozen=True)
class DecodeKernel:
    """One way to decode a whole weight: `run(packed, out)`, asked before with `refuses(packed, dtype)`.

    `out` is contiguous, of packed.shape, on packed.device, float32, bfloat16, float16 or float64. What is written are
    the float32 values of the format's `decode`, bit for bit, rounded once to out.dtype.
    """

    name: str
    priority: int
    refuses: Callable[[PackedWeight, torch.dtype], str | None]
    run: Callable[[PackedWeight, torch.Tensor], None]


@dataclass(frozen=True)
class RowPeaksKernel:
    """One way to find the largest |w| of each row of an (n, k) weight: `run(packed)` -> (n,) float32."""

    name: str
    priority: int
    refuses: Callable[[PackedWeight], str | None]
    run: Callable[[PackedWeight], torch.Tensor]

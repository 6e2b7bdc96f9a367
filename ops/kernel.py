"""What a backend offers to the dispatcher."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from .packed import PackedWeight


@dataclass(frozen=True)
class LinearKernel:
    """One way to compute a linear layer.

    `refuses(x, packed, bias, mode)` returns None or, in a few words, why this kernel cannot run that call; it must be
    cheap and look at shapes, dtypes, devices and formats only, never at free memory. `run(x, packed, bias)` computes.
    Of the kernels that do not refuse, the one with the highest `priority` runs.
    """

    name: str
    priority: int
    refuses: Callable[[torch.Tensor, PackedWeight, torch.Tensor | None, str], str | None]
    run: Callable[[torch.Tensor, PackedWeight, torch.Tensor | None], torch.Tensor]

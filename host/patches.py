"""A LoRA or other patch on a packed weight, as a function the host attaches to the layer.

The host calls such a function with the dense weight (`weight_function`), which works for every patch type. For plain
LoRA our layers never ask for that; they add

    y += ((x @ down.T) * scale) @ up.T      scale = strength * alpha / rank

beside the packed matmul, so the packed weight stays what it is and removing the patch restores it bit for bit.
"""

from dataclasses import dataclass, replace

import comfy.lora
import torch
import torch.nn.functional as F  # noqa: N812
from comfy.weight_adapter.lora import LoRAAdapter


@dataclass(frozen=True, eq=False)
class LowRank:
    """up (n, r) and down (r, k) of one LoRA, any float dtype."""

    up: torch.Tensor
    down: torch.Tensor
    scale: float

    def add_to(self, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """y (..., n) in place plus this LoRA's share for x (..., k)."""
        up, down = self._like(x)
        return y.add_(F.linear(F.linear(x, down) * self.scale, up))

    def add_to_rows(self, values: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """values, rows.shape + (k,), in place plus this LoRA's share of those rows of the weight."""
        up, down = self._like(values)
        return values.add_((F.embedding(rows, up) * self.scale) @ down)

    def _like(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.up.to(x.device, x.dtype), self.down.to(x.device, x.dtype)


class PackedPatch:
    """One entry of the host's patch lists: (strength, value, model strength, offset, function)."""

    def __init__(self, key: str, patch: tuple, shape: tuple[int, ...]):
        self.key = key
        self.patch = patch
        self.shape = tuple(shape)
        self._source = _low_rank(patch, self.shape)
        self.low_rank = self._source

    def __call__(self, weight: torch.Tensor) -> torch.Tensor:
        """The dense weight with the patch applied, as the host computes it; `weight` itself is not written to."""
        return comfy.lora.calculate_weight([self.patch], weight.clone(), self.key, intermediate_dtype=weight.dtype)

    def move_to(self, device: torch.device) -> int:
        """Called by the host when the layer moves; returns the bytes that now lie on `device`."""
        if self._source is None:
            return 0
        up, down = self._source.up, self._source.down
        self.low_rank = replace(self._source, up=up.to(device), down=down.to(device))
        return up.nbytes + down.nbytes


class HookPatch(PackedPatch):
    """A patch that a hook attached for part of a run; the patcher finds it in the layer and takes it off again."""


def low_ranks(functions: list) -> list[LowRank] | None:
    """The LoRAs behind a layer's weight functions, or None when one of them needs the dense weight."""
    found = [getattr(function, "low_rank", None) for function in functions]
    return None if any(low_rank is None for low_rank in found) else found


def _low_rank(patch: tuple, shape: tuple[int, ...]) -> LowRank | None:
    strength, value, model_strength, offset, function = patch
    if not isinstance(value, LoRAAdapter) or model_strength != 1.0 or offset is not None or function is not None:
        return None
    up, down, alpha, mid, dora_scale, reshape = value.weights
    if mid is not None or dora_scale is not None or reshape is not None:
        return None
    up, down = up.flatten(start_dim=1), down.flatten(start_dim=1)
    if len(shape) != 2 or up.shape[0] != shape[0] or down.shape[1] != shape[1] or up.shape[1] != down.shape[0]:
        return None  # the host logs the mismatch and leaves the weight as it is
    scale = strength * (1.0 if alpha is None else alpha / down.shape[0])
    return LowRank(up, down, scale)

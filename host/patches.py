"""A LoRA or other patch on a packed weight, as a function the host attaches to the layer.

The host calls such a function with the dense weight (`weight_function`), which works for every patch type. For plain
LoRA our layers never ask for that; they add its share beside the packed matmul (`side_path.py`), so the packed weight
stays what it is and removing the patch restores it bit for bit.
"""

from dataclasses import dataclass

import comfy.lora
import torch
from comfy.weight_adapter.lora import LoRAAdapter


@dataclass(frozen=True, eq=False)
class LowRank:
    """W + scale * (up @ down): up (n, r) and down (r, k) as in the file, scale = strength * alpha / r."""

    up: torch.Tensor
    down: torch.Tensor
    scale: float


class PackedPatch:
    """One entry of the host's patch lists: (strength, value, model strength, offset, function)."""

    def __init__(self, key: str, patch: tuple, shape: tuple[int, ...]):
        self.key = key
        self.patch = patch
        self.shape = tuple(shape)
        self.low_rank = _low_rank(patch, self.shape)
        self.device = torch.device("cpu") if self.low_rank is None else self.low_rank.up.device

    def __call__(self, weight: torch.Tensor) -> torch.Tensor:
        """The dense weight with the patch applied, as the host computes it; `weight` itself is not written to."""
        return comfy.lora.calculate_weight([self.patch], weight.clone(), self.key, intermediate_dtype=weight.dtype)

    def move_to(self, device: torch.device) -> int:
        """Called by the host when the layer moves; returns the bytes that will lie on `device`.

        The tensors stay as the file has them: the layer's side path is what moves, so no device holds them twice.
        """
        if self.low_rank is None:
            return 0
        self.device = device
        return self.low_rank.up.nbytes + self.low_rank.down.nbytes


class HookPatch(PackedPatch):
    """A patch that a hook attached for part of a run; the patcher finds it in the layer and takes it off again."""


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

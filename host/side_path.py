"""All LoRAs of one layer as a single pair of matmuls beside the packed one: their ranks are put side by side.

    y += ((x @ down.T) * scales) @ up.T      up (n, r), down (r, k), r the sum of the ranks

A layer keeps its side path as long as it has the same patches. One LoRA alone is used where it lies, without a copy.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812

from .patches import PackedPatch


@dataclass(frozen=True, eq=False)
class SidePath:
    """up (n, r), down (r, k) in the files' dtype (float32 if they differ), scales (r,) float32, on one device."""

    patches: tuple[PackedPatch, ...]
    up: torch.Tensor
    down: torch.Tensor
    scales: torch.Tensor

    def add_to(self, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """y (..., n) plus the LoRAs' share for x (..., k); y may be written to."""
        up, down, scales = self._for(x)
        rows = y.reshape(-1, y.shape[-1])
        # in place: float32 scales, but the products are rounded to x's dtype once
        hidden = _linear(x.reshape(-1, x.shape[-1]), down).mul_(scales)  # (rows, r)
        return _add_linear(rows, hidden, up).view(y.shape)

    def add_to_rows(self, values: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """values, rows.shape + (k,), in place plus the LoRAs' share of those rows of the weight."""
        up, down, scales = self._for(values)
        return values.add_(F.embedding(rows, up).mul_(scales) @ down)

    def is_of(self, functions: list, device: torch.device) -> bool:
        """Whether it was made of just these weight functions, for a layer that computes on `device`."""
        return (
            len(functions) == len(self.patches)
            and all(function is patch for function, patch in zip(functions, self.patches, strict=True))
            and self.up.device == _home(self.patches, device)
        )

    def _for(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return self.up.to(x.device, x.dtype), self.down.to(x.device, x.dtype), self.scales.to(x.device)


def is_low_rank(functions: list) -> bool:
    """Whether a layer's weight functions are all LoRAs that a side path can hold; else the dense weight is needed."""
    return all(getattr(function, "low_rank", None) is not None for function in functions)


def side_path(patches: list[PackedPatch], device: torch.device) -> SidePath:
    """The side path of one or more low-rank patches, for a layer that computes on `device`."""
    parts, home = [patch.low_rank for patch in patches], _home(patches, device)
    scales = [part.scale for part in parts for _ in range(part.down.shape[0])]
    return SidePath(
        tuple(patches),
        _joined([part.up for part in parts], 1, home),
        _joined([part.down for part in parts], 0, home),
        torch.tensor(scales, dtype=torch.float32, device=home),
    )


def _home(patches: list[PackedPatch] | tuple[PackedPatch, ...], device: torch.device) -> torch.device:
    """Where the tensors lie: with the host's last word to the patches, on the layer's own device of that type.

    A patch that was sent to the CPU belongs to a layer that gets its weight from there at every call.
    """
    return device if patches[0].device.type == device.type else patches[0].device


def _joined(parts: list[torch.Tensor], dim: int, device: torch.device) -> torch.Tensor:
    if len(parts) == 1:
        return parts[0].to(device)
    dtypes = {part.dtype for part in parts}
    dtype = dtypes.pop() if len(dtypes) == 1 else torch.float32
    return torch.cat([part.to(device, dtype) for part in parts], dim)


def _has_onednn(x: torch.Tensor) -> bool:
    """For float32 on the CPU torch takes MKL, which is half as fast as oneDNN on AMD CPUs with AVX512."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and torch.backends.mkldnn.is_available()


def _linear(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """(rows, k), (n, k) -> (rows, n)."""
    if _has_onednn(x):
        return torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    return F.linear(x, weight)


def _add_linear(y: torch.Tensor, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """y (rows, n) plus x (rows, k) times weight (n, k), in one pass over y."""
    if _has_onednn(x):
        return torch.ops.mkldnn._linear_pointwise.binary(x, y, weight, None, "add")
    return y.addmm_(x, weight.t())

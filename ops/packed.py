"""A weight as it lies in the file: raw bytes, their block format and the logical shape."""

import math
from dataclasses import dataclass

import torch

from .block_format import BlockFormat


@dataclass(frozen=True, eq=False)
class PackedWeight:
    """Rows of blocks: `data` is (nbytes,) uint8, contiguous, and may be a read-only view of a mapped file.

    `shape` is the logical shape in torch order. Blocks follow each other without gaps, so any shape with the same
    number of elements whose last dimension is a whole number of blocks describes the same bytes.
    `row_scale`, (n,) float32 on the same device, is what mode int8 divides each row by (`row_scales.py`); who keeps a
    weight keeps it too, so that it is found once. Other shapes of the same bytes do not inherit it.
    """

    data: torch.Tensor
    format: BlockFormat
    shape: tuple[int, ...]
    row_scale: torch.Tensor | None = None

    def __post_init__(self) -> None:
        if self.data.dtype != torch.uint8 or self.data.dim() != 1 or not self.data.is_contiguous():
            raise ValueError(
                f"packed data: got {self.data.dtype} of shape {tuple(self.data.shape)}; "
                "a contiguous 1-D uint8 tensor is allowed"
            )
        expected_bytes = self.format.row_bytes(math.prod(self.shape))
        if self.data.numel() != expected_bytes:
            raise ValueError(
                f"packed data: got {self.data.numel()} bytes; {self.format.name} of shape {self.shape} "
                f"takes {expected_bytes}"
            )

    @property
    def nbytes(self) -> int:
        """Size of the packed bytes."""
        return self.data.numel()

    @property
    def numel(self) -> int:
        """Number of logical elements."""
        return math.prod(self.shape)

    @property
    def device(self) -> torch.device:
        """Where the packed bytes are."""
        return self.data.device

    def blocks(self) -> torch.Tensor:
        """(n_blocks, block_bytes) uint8 view of `data`."""
        return self.data.view(-1, self.format.block_bytes)

    def reshape(self, shape: tuple[int, ...]) -> "PackedWeight":
        """The same bytes under another shape. Raises ValueError when counts differ or a block would straddle a row."""
        shape = tuple(shape)
        if math.prod(shape) != self.numel:
            raise ValueError(
                f"reshape of packed {self.format.name}: {self.shape} has {self.numel} elements, not {shape}"
            )
        if shape:
            self.format.row_bytes(shape[-1])
        return PackedWeight(self.data, self.format, shape)

    def rows(self, start: int, stop: int) -> "PackedWeight":
        """Rows start..stop of a 2-D weight, not copied; `stop` is at most n."""
        k = self.shape[-1]
        row_bytes = self.format.row_bytes(k)
        scale = None if self.row_scale is None else self.row_scale[start:stop]
        return PackedWeight(self.data[start * row_bytes : stop * row_bytes], self.format, (stop - start, k), scale)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "PackedWeight":
        """The same weight with its bytes (and row_scale) on `device`."""
        scale = None if self.row_scale is None else self.row_scale.to(device, non_blocking=non_blocking)
        return PackedWeight(self.data.to(device, non_blocking=non_blocking), self.format, self.shape, scale)

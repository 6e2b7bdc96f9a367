"""What one GGML tensor type is: its name, id, block geometry and the function that decodes its blocks."""

from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class BlockFormat:
    """One GGML tensor type. `decode` maps (n_blocks, block_bytes) uint8 -> (n_blocks, block_elems) dtype, any device.

    `decode(blocks, dtype)` computes in float32 and rounds once to `dtype`. Its result may alias `blocks`, which may be
    read-only memory: copy before writing to it.
    """

    name: str
    ggml_type: int
    block_elems: int
    block_bytes: int
    decode: Callable[[torch.Tensor, torch.dtype], torch.Tensor]

    def row_bytes(self, k: int) -> int:
        """Bytes of one row of k elements. Raises ValueError when k is not a multiple of block_elems."""
        if k % self.block_elems:
            raise ValueError(
                f"{self.name} row length: got {k}; a multiple of {self.block_elems} is allowed; "
                f"store this tensor as F16 or F32, or as a type with smaller blocks"
            )
        return k // self.block_elems * self.block_bytes

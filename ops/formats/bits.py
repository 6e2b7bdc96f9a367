"""Bit unpacking shared by the block formats."""

import torch


def half_floats(blocks: torch.Tensor, start: int, count: int = 1) -> torch.Tensor:
    """`count` fp16 fields at byte `start`: (n_blocks, block_bytes) uint8 -> (n_blocks, count) float32."""
    return blocks[:, start : start + 2 * count].view(torch.float16).to(torch.float32)


def split_nibbles(qs: torch.Tensor) -> torch.Tensor:
    """(..., n) uint8 -> (..., 2n) uint8: all low nibbles, then all high nibbles."""
    return torch.cat((qs & 15, qs >> 4), dim=-1)

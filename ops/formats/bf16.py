"""BF16: the upper half of a float32, little-endian, one element per block."""

import torch

from ..block_format import BlockFormat


def decode(blocks: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(n, 2) uint8 -> (n, 1) dtype; a view of `blocks` when dtype is bfloat16."""
    return blocks.view(torch.bfloat16).to(dtype)


FORMAT = BlockFormat("BF16", ggml_type=30, block_elems=1, block_bytes=2, decode=decode)

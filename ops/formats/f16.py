"""F16: plain little-endian IEEE half precision, one element per block."""

import torch

from ..block_format import BlockFormat


def decode(blocks: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(n, 2) uint8 -> (n, 1) dtype; a view of `blocks` when dtype is float16."""
    return blocks.view(torch.float16).to(dtype)


FORMAT = BlockFormat("F16", ggml_type=1, block_elems=1, block_bytes=2, decode=decode)

"""F32: plain little-endian IEEE single precision, one element per block."""

import torch

from ..block_format import BlockFormat


def decode(blocks: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(n, 4) uint8 -> (n, 1) dtype; a view of `blocks` when dtype is float32."""
    return blocks.view(torch.float32).to(dtype)


FORMAT = BlockFormat("F32", ggml_type=0, block_elems=1, block_bytes=4, decode=decode)

"""Q8_0: 8-bit weights, one fp16 scale per 32 weights (8.5 bits per weight).

Block, 34 bytes (`block_q8_0` in ggml-common.h):

    bytes   field  type       meaning
    0..1    d      fp16       scale
    2..33   qs     32 x i8    weights

    w[i] = d * qs[i]
"""

import torch

from ..block_format import BlockFormat
from .bits import half_floats


def decode(blocks: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(n_blocks, 34) uint8 -> (n_blocks, 32) dtype."""
    d = half_floats(blocks, 0)  # (n_blocks, 1)
    qs = blocks[:, 2:].view(torch.int8)  # (n_blocks, 32)
    return (d * qs).to(dtype)


FORMAT = BlockFormat("Q8_0", ggml_type=8, block_elems=32, block_bytes=34, decode=decode)

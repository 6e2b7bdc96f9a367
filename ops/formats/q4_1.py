"""Q4_1: 4-bit weights, one fp16 scale and one fp16 minimum per 32 weights (5 bits per weight).

Block, 20 bytes (`block_q4_1` in ggml-common.h):

    bytes   field  type       meaning
    0..1    d      fp16       scale
    2..3    m      fp16       minimum
    4..19   qs     16 x u8    low nibble -> weight i, high nibble -> weight i + 16

    w[i] = d * q[i] + m     with q[i] in 0..15
"""

import torch

from ..block_format import BlockFormat
from .bits import half_floats, split_nibbles


def decode(blocks: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(n_blocks, 20) uint8 -> (n_blocks, 32) dtype."""
    d, m = half_floats(blocks, 0), half_floats(blocks, 2)  # (n_blocks, 1) each
    return (d * split_nibbles(blocks[:, 4:])).add_(m).to(dtype)


FORMAT = BlockFormat("Q4_1", ggml_type=3, block_elems=32, block_bytes=20, decode=decode)

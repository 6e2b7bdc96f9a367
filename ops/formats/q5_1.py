"""Q5_1: 5-bit weights, one fp16 scale and one fp16 minimum per 32 weights (6 bits per weight).

Block, 24 bytes (`block_q5_1` in ggml-common.h):

    bytes   field  type       meaning
    0..1    d      fp16       scale
    2..3    m      fp16       minimum
    4..7    qh     4 x u8     fifth bits: bit i % 8 of qh[i // 8] -> weight i
    8..23   qs     16 x u8    low nibble -> weight i, high nibble -> weight i + 16

    w[i] = d * q[i] + m     with q[i] in 0..31
"""

import torch

from ..block_format import BlockFormat
from .bits import fields, half_floats, split_nibbles


def decode(blocks: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(n_blocks, 24) uint8 -> (n_blocks, 32) dtype."""
    d, m = half_floats(blocks, 0), half_floats(blocks, 2)  # (n_blocks, 1) each
    q = split_nibbles(blocks[:, 8:]) | (fields(blocks[:, 4:8], width=1, count=8) << 4)  # (n_blocks, 32)
    return (d * q).add_(m).to(dtype)


FORMAT = BlockFormat("Q5_1", ggml_type=7, block_elems=32, block_bytes=24, decode=decode)

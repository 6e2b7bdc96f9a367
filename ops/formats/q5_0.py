"""Q5_0: 5-bit weights, one fp16 scale per 32 weights (5.5 bits per weight).

Block, 22 bytes (`block_q5_0` in ggml-common.h):

    bytes   field  type       meaning
    0..1    d      fp16       scale
    2..5    qh     4 x u8     fifth bits: bit i % 8 of qh[i // 8] -> weight i
    6..21   qs     16 x u8    low nibble -> weight i, high nibble -> weight i + 16

    w[i] = d * (q[i] - 16)     with q[i] in 0..31
"""

import torch

from ..block_format import BlockFormat
from .bits import fields, half_floats, split_nibbles


def decode(blocks: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(n_blocks, 22) uint8 -> (n_blocks, 32) dtype."""
    d = half_floats(blocks, 0)  # (n_blocks, 1)
    q = split_nibbles(blocks[:, 6:]) | (fields(blocks[:, 2:6], width=1, count=8) << 4)  # (n_blocks, 32)
    return (d * (q.view(torch.int8) - 16)).to(dtype)


FORMAT = BlockFormat("Q5_0", ggml_type=6, block_elems=32, block_bytes=22, decode=decode)

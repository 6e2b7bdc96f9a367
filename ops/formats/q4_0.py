"""Q4_0: 4-bit weights, one fp16 scale per 32 weights (4.5 bits per weight).

Block, 18 bytes (`block_q4_0` in ggml-common.h):

    bytes   field  type       meaning
    0..1    d      fp16       scale
    2..17   qs     16 x u8    low nibble -> weight i, high nibble -> weight i + 16

    w[i] = d * (q[i] - 8)     with q[i] in 0..15
"""

import torch

from ..block_format import BlockFormat
from .bits import half_floats, split_nibbles


def decode(blocks: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(n_blocks, 18) uint8 -> (n_blocks, 32) dtype."""
    d = half_floats(blocks, 0)  # (n_blocks, 1)
    q = split_nibbles(blocks[:, 2:]).view(torch.int8) - 8  # (n_blocks, 32)
    return (d * q).to(dtype)


FORMAT = BlockFormat("Q4_0", ggml_type=2, block_elems=32, block_bytes=18, decode=decode)

"""Q4_K: 4-bit weights in 8 sub-blocks of 32, each with a 6-bit scale and a 6-bit minimum (4.5 bits per weight).

Super-block of 256 weights, 144 bytes (`block_q4_K` in ggml-common.h):

    bytes     field   type       meaning
    0..1      d       fp16       scale of the scales
    2..3      dmin    fp16       scale of the minima
    4..15     scales  12 x u8    8 six-bit scales and 8 six-bit minima, packed (`unpack_scales` in bits.py)
    16..143   qs      128 x u8   chunk c of 32 bytes: low nibbles -> sub-block 2c, high nibbles -> sub-block 2c + 1

    w[s, i] = d * sc[s] * q[s, i] - dmin * mn[s]     with q in 0..15, sc and mn in 0..63
"""

import torch

from ..block_format import BlockFormat
from .bits import half_floats, unpack_scales


def decode(blocks: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(n_blocks, 144) uint8 -> (n_blocks, 256) dtype."""
    n_blocks = blocks.shape[0]
    sc, mn = unpack_scales(blocks[:, 4:16])
    scale = (half_floats(blocks, 0) * sc).unsqueeze(-1)  # (n_blocks, 8, 1)
    minimum = (half_floats(blocks, 2) * mn).unsqueeze(-1)  # (n_blocks, 8, 1)
    qs = blocks[:, 16:].reshape(n_blocks, 4, 1, 32)
    q = torch.cat((qs & 15, qs >> 4), dim=2).view(n_blocks, 8, 32)
    return (scale * q).sub_(minimum).view(n_blocks, 256).to(dtype)


FORMAT = BlockFormat("Q4_K", ggml_type=12, block_elems=256, block_bytes=144, decode=decode)

"""Q2_K: 2-bit weights in 16 sub-blocks of 16, each with a 4-bit scale and a 4-bit minimum (2.625 bits per weight).

Super-block of 256 weights, 84 bytes (`block_q2_K` in ggml-common.h):

    bytes     field   type       meaning
    0..15     scales  16 x u8    low nibble: scale, high nibble: minimum, of sub-block s
    16..79    qs      64 x u8    half h of 32 bytes: bits 2g and 2g + 1 of byte j -> weight 128h + 32g + j
    80..81    d       fp16       scale of the scales
    82..83    dmin    fp16       scale of the minima

    w[i] = d * (scales[i // 16] & 15) * q[i] - dmin * (scales[i // 16] >> 4)     with q[i] in 0..3
"""

import torch

from ..block_format import BlockFormat
from .bits import half_floats, planes


def decode(blocks: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(n_blocks, 84) uint8 -> (n_blocks, 256) dtype."""
    n_blocks = blocks.shape[0]
    scales = blocks[:, :16]
    scale = (half_floats(blocks, 80) * (scales & 15)).unsqueeze(-1)  # (n_blocks, 16, 1)
    minimum = (half_floats(blocks, 82) * (scales >> 4)).unsqueeze(-1)  # (n_blocks, 16, 1)
    q = planes(blocks[:, 16:80].reshape(n_blocks, 2, 32), width=2, count=4).view(n_blocks, 16, 16)
    return (scale * q).sub_(minimum).view(n_blocks, 256).to(dtype)


FORMAT = BlockFormat("Q2_K", ggml_type=10, block_elems=256, block_bytes=84, decode=decode)

"""IQ4_XS: 4-bit weights on an uneven scale in 8 sub-blocks of 32, each with a 6-bit scale (4.25 bits per weight).

Super-block of 256 weights, 136 bytes (`block_iq4_xs` in ggml-common.h):

    bytes    field     type       meaning
    0..1     d         fp16       scale of the scales
    2..3     scales_h  u16        bits 2s and 2s + 1: high two bits of scale s
    4..7     scales_l  4 x u8     low four bits: low nibble of byte b -> scale 2b, high nibble -> scale 2b + 1
    8..135   qs        128 x u8   byte 16s + j: low nibble -> weight 32s + j, high nibble -> weight 32s + 16 + j

    w[i] = d * (sc[i // 32] - 32) * KVALUES[q[i]]     with sc in 0..63, q[i] in 0..15, KVALUES as in IQ4_NL
"""

import torch

from ..block_format import BlockFormat
from .bits import fields, half_floats, lookup, split_nibbles
from .iq4_nl import KVALUES


def decode(blocks: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(n_blocks, 136) uint8 -> (n_blocks, 256) dtype."""
    n_blocks = blocks.shape[0]
    high = fields(blocks[:, 2:4], width=2, count=4)  # (n_blocks, 8)
    sc = (fields(blocks[:, 4:8], width=4, count=2) | (high << 4)).view(torch.int8) - 32
    scale = (half_floats(blocks, 0) * sc).unsqueeze(-1)  # (n_blocks, 8, 1)
    values = lookup(KVALUES, split_nibbles(blocks[:, 8:].reshape(n_blocks, 8, 16)))  # (n_blocks, 8, 32)
    return (scale * values).view(n_blocks, 256).to(dtype)


FORMAT = BlockFormat("IQ4_XS", ggml_type=23, block_elems=256, block_bytes=136, decode=decode)

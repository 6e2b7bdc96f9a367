"""Q3_K: 3-bit weights in 16 sub-blocks of 16, each with a 6-bit scale (3.4375 bits per weight).

Super-block of 256 weights, 110 bytes (`block_q3_K` in ggml-common.h):

    bytes      field   type       meaning
    0..31      hmask   32 x u8    third bits: bit 4h + g of byte j -> weight 128h + 32g + j
    32..95     qs      64 x u8    half h of 32 bytes: bits 2g and 2g + 1 of byte j -> weight 128h + 32g + j
    96..107    scales  12 x u8    16 six-bit scales
    108..109   d       fp16       scale of the scales

Scale s is four bits of scales[s % 8], the low nibble for s < 8 and the high one from 8 on, and above them the bits
2 * (s // 4) and 2 * (s // 4) + 1 of scales[8 + s % 4].

    w[i] = d * (sc[i // 16] - 32) * (q[i] - 4)     with sc in 0..63 and q[i] in 0..7
"""

import torch

from ..block_format import BlockFormat
from .bits import half_floats, planes, split_nibbles


def decode(blocks: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(n_blocks, 110) uint8 -> (n_blocks, 256) dtype."""
    n_blocks = blocks.shape[0]
    high_scales = planes(blocks[:, 104:108], width=2, count=4).view(n_blocks, 16)
    sc = (split_nibbles(blocks[:, 96:104]) | (high_scales << 4)).view(torch.int8) - 32
    scale = (half_floats(blocks, 108) * sc).unsqueeze(-1)  # (n_blocks, 16, 1)
    low = planes(blocks[:, 32:96].reshape(n_blocks, 2, 32), width=2, count=4).view(n_blocks, 256)
    high = planes(blocks[:, :32], width=1, count=8).view(n_blocks, 256)
    q = (low | (high << 2)).view(torch.int8) - 4
    return (scale * q.view(n_blocks, 16, 16)).view(n_blocks, 256).to(dtype)


FORMAT = BlockFormat("Q3_K", ggml_type=11, block_elems=256, block_bytes=110, decode=decode)

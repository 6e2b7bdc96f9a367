"""IQ1_M: groups of 8 weights on a grid of 2048 points, a 3-bit scale per 16 weights (1.75 bits per weight).

Super-block of 256 weights, 56 bytes (`block_iq1_m` in ggml-common.h):

    bytes    field   type      meaning
    0..31    qs      32 x u8   low eight bits of the grid index of group g
    32..47   qh      16 x u8   low nibble of byte b for group 2b, high nibble for group 2b + 1:
                               three bits are the high bits of the index, the fourth is the sign of delta
    48..55   scales  4 x u16   bits 3l .. 3l + 2 of number k: scale 4k + l; bits 12..15: bits 4k .. 4k + 3 of d, an fp16

    w[8g + j] = d * (2 * sc[g // 2] + 1) * (GRID[index][j] + delta)     with delta = 1/8, or -1/8 where the bit is set

The grid is that of IQ1_S.
"""

import torch

from ..block_format import BlockFormat
from .bits import fields, lookup
from .iq1_s import DELTA, GRID


def super_scale(scales: torch.Tensor) -> torch.Tensor:
    """(n_blocks, 8) uint8, the bytes of `scales` -> d, (n_blocks, 1) float32."""
    tops = scales[:, 1::2]  # the upper bytes of the four numbers
    return ((tops[:, 0::2] >> 4) | (tops[:, 1::2] & 240)).view(torch.float16).to(torch.float32)


def decode(blocks: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(n_blocks, 56) uint8 -> (n_blocks, 256) dtype."""
    n_blocks = blocks.shape[0]
    sc = fields(blocks[:, 48:56].view(torch.int16), width=3, count=4)  # (n_blocks, 16)
    scale = super_scale(blocks[:, 48:56]) * (sc * 2 + 1)
    qh = fields(blocks[:, 32:48], width=4, count=2)  # (n_blocks, 32)
    delta = torch.where(qh > 7, -DELTA, DELTA).to(torch.float32)
    index = blocks[:, :32] | ((qh & 7).to(torch.int16) << 8)  # (n_blocks, 32) int16
    points = lookup(GRID, index) + delta.unsqueeze(-1)  # (n_blocks, 32, 8)
    return points.view(n_blocks, 16, 16).mul_(scale.unsqueeze(-1)).view(n_blocks, 256).to(dtype)


FORMAT = BlockFormat("IQ1_M", ggml_type=29, block_elems=256, block_bytes=56, decode=decode)

"""Q6_K: 6-bit weights in 16 sub-blocks of 16, each with an 8-bit scale (6.5625 bits per weight).

Super-block of 256 weights, 210 bytes (`block_q6_K` in ggml-common.h):

    bytes      field   type       meaning
    0..127     ql      128 x u8   low four bits
    128..191   qh      64 x u8    high two bits
    192..207   scales  16 x i8    scale per 16 weights
    208..209   d       fp16       scale of the scales

Half h = 0, 1 holds 128 weights in four groups g of 32: groups 0 and 1 take the low nibbles of ql[64h .. 64h+63], groups
2 and 3 the high ones; group g takes bits 2g and 2g + 1 of qh[32h .. 32h+31].

    w[i] = d * scales[i // 16] * (q[i] - 32)     with q[i] in 0..63
"""

import torch

from ..block_format import BlockFormat
from .bits import half_floats


def decode(blocks: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(n_blocks, 210) uint8 -> (n_blocks, 256) dtype."""
    n_blocks = blocks.shape[0]
    ql = blocks[:, :128].reshape(n_blocks, 2, 1, 64)
    low = torch.cat((ql & 15, ql >> 4), dim=2).view(n_blocks, 2, 4, 32)
    qh = blocks[:, 128:192].reshape(n_blocks, 2, 32)
    high = torch.stack([(qh << shift) & 48 for shift in (4, 2, 0)] + [(qh >> 2) & 48], dim=2)  # (n_blocks, 2, 4, 32)
    q = (low | high).view(torch.int8).view(n_blocks, 16, 16) - 32
    scale = half_floats(blocks, 208) * blocks[:, 192:208].view(torch.int8)  # (n_blocks, 16)
    return (scale.unsqueeze(-1) * q).view(n_blocks, 256).to(dtype)


FORMAT = BlockFormat("Q6_K", ggml_type=14, block_elems=256, block_bytes=210, decode=decode)

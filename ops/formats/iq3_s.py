"""IQ3_S: groups of 4 weights on a grid of 512 points, a 4-bit scale per 32 weights (3.4375 bits per weight).

Super-block of 256 weights, 110 bytes (`block_iq3_s` in ggml-common.h):

    bytes      field   type      meaning
    0..1       d       fp16      scale of the scales
    2..65      qs      64 x u8   low eight bits of the grid index of group g
    66..73     qh      8 x u8    bit g % 8 of byte g // 8: ninth bit of the index of group g
    74..105    signs   32 x u8   bit i % 8 of byte i // 8 set -> weight i is negative
    106..109   scales  4 x u8    low nibble of byte b: scale 2b, high nibble: scale 2b + 1

    w[4g + j] = d * (2 * sc[g // 8] + 1) * GRID[index][j] * sign
"""

import torch

from ..block_format import BlockFormat
from .bits import fields, half_floats, lookup
from .iq_grids import SIGNS, grid

# `iq3s_grid` in ggml-common.h
GRID = grid(
    "a7572308a50a05921723892210002204a3492211a40a00090822054a10058022018812040902000114004508a2004008400a000200040002"
    "150045080011000017ab0552005002044b1102090205004101a411040920010492098211020004012814000a441100000209020500020000"
    "00009100500000000a05022002000401ab558a052a058029058924120402000092000a81028800122502140a040140008200092402000024"
    "10020480010800018500020000200200200240010801000004aa042a940208022a100a0001000144010401140001000002118a018a200008"
    "0842040200041100020520041040000800400000020000000a000520000000001104910402010001840a0421082200000a21020801800401"
    "100a0522000000000500108001000002a0000200000004000008001000000100002100010802000004110400910440102a04020400000004"
    "01020841000800008401800010022008120001044000000000044000000a000000000000040000001400040000000000002a000a00000100"
    "010081000000100000040010042004010110020001000000000020000800040009000010000001002000000001000000000a000000000000"
    "9100054001100400040210002800000012410201000200000400002400080000220801000001000000000400040000000400000200000000"
    "0100000000000000",
    levels=(1, 3, 5, 7, 9, 11, 13, 15),
    length=4,
)


def decode(blocks: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(n_blocks, 110) uint8 -> (n_blocks, 256) dtype."""
    n_blocks = blocks.shape[0]
    high = fields(blocks[:, 66:74], width=1, count=8).to(torch.int16)
    index = blocks[:, 2:66] | (high << 8)  # (n_blocks, 64) int16
    scale = half_floats(blocks, 0) * (fields(blocks[:, 106:110], width=4, count=2) * 2 + 1)  # (n_blocks, 8)
    points = lookup(GRID, index).view(n_blocks, 32, 8).mul_(lookup(SIGNS, blocks[:, 74:106]))
    return (scale.unsqueeze(-1) * points.view(n_blocks, 8, 32)).view(n_blocks, 256).to(dtype)


FORMAT = BlockFormat("IQ3_S", ggml_type=21, block_elems=256, block_bytes=110, decode=decode)

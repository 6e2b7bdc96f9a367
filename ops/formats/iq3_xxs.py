"""IQ3_XXS: groups of 4 weights on a grid of 256 points, a 4-bit scale per 32 weights (3.0625 bits per weight).

Super-block of 256 weights, 98 bytes (`block_iq3_xxs` in ggml-common.h):

    bytes    field  type      meaning
    0..1     d      fp16      scale of the scales
    2..65    qs     64 x u8   grid index of group g
    66..97   (qs)   8 x u32   of sub-block s: bits 7l .. 7l + 6 index the signs of groups 8s + 2l and 8s + 2l + 1,
                              bits 28..31 are the scale sc

    w[4g + j] = d * (sc + 1/2) / 2 * GRID[index][j] * sign     with eight signs of `iq_grids.EVEN_SIGNS` for two groups
"""

import torch

from ..block_format import BlockFormat
from .bits import fields, half_floats, lookup, words
from .iq_grids import EVEN_SIGNS, grid

# `iq3xxs_grid` in ggml-common.h
GRID = grid(
    "158a0502040000280a052205021000011502058a008200208205200000000001000800801080002882000004000400000000002000001000"
    "00510000080002000a050a158001000005020500000000000a05020100000004050001024000400022000000000100000000110040000002"
    "20000000000000000000040001000000050a4502040000002a05020100008801058205800120000002110000000000110000002000080000"
    "080080000200001000000000000000000a4000002000000002050a000001200405000102500000000a012000000400040002000800000000"
    "0000000180000004410004000020000000100040000008000000000800000100108000a00088000000000000000000100000018001004100"
    "8000000020000000100000000002100000002000080000010000000000000000200500010000000000040000020000014100400000200000"
    "0010000400000004040000000008000000018800000000040400000200000000000000000001000000001000040000000000100050001000"
    "0000020000000200008000000000100000000041000000000000000010000000200000000004000000000008000000000800020000000000"
    "a801000400040000000040000100000000040000200400000120000800000100000002000200000005001000000000000000000100000000"
    "0000000000000000",
    levels=(4, 12, 20, 28, 36, 44, 52, 62),
    length=4,
)


def decode(blocks: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(n_blocks, 98) uint8 -> (n_blocks, 256) dtype."""
    n_blocks = blocks.shape[0]
    signs_and_scale = words(blocks[:, 66:])  # (n_blocks, 8)
    sc = ((signs_and_scale >> 28) & 15).to(torch.float32)
    scale = half_floats(blocks, 0) * (sc + 0.5) * 0.5  # (n_blocks, 8)
    signs = lookup(EVEN_SIGNS, fields(signs_and_scale, width=7, count=4))  # (n_blocks, 32, 8)
    points = lookup(GRID, blocks[:, 2:66]).view(n_blocks, 32, 8).mul_(signs)
    return (scale.unsqueeze(-1) * points.view(n_blocks, 8, 32)).view(n_blocks, 256).to(dtype)


FORMAT = BlockFormat("IQ3_XXS", ggml_type=18, block_elems=256, block_bytes=98, decode=decode)

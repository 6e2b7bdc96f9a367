"""What mode int8 divides each row of a weight by, in one pass over the packed bytes and without a decoded copy."""

# ruff: noqa: N803 - compile-time arguments are in capitals, as in all Triton code

import torch

from ...packed import PackedWeight
from .decode_tile import EXACT, decode_tile, format_constants
from .language import tl, triton
from .machine import on_device
from .rounding import scale_of

TILE_ELEMS = 2048


@triton.jit(do_not_specialize=["rows", "row_blocks"])
def row_scales_kernel(
    src,
    scales,
    rows,
    row_blocks,
    DECODE: tl.constexpr,
    SUBS: tl.constexpr,
    ELEMS: tl.constexpr,
    BLOCK_BYTES: tl.constexpr,
    BLOCKS: tl.constexpr,
):
    """One program per row: (rows, row_blocks) blocks at src -> (rows,) float32 at scales."""
    row = tl.program_id(0).to(tl.int64)
    peaks = tl.zeros((1, BLOCKS * SUBS * ELEMS), tl.float32)
    for first_block in range(0, row_blocks, BLOCKS):  # blocks past the end repeat the last: no new peaks
        weight = decode_tile(src, row, first_block, rows, row_blocks, DECODE, SUBS, ELEMS, BLOCK_BYTES, 1, BLOCKS)
        peaks = tl.maximum(peaks, tl.abs(weight))
    tl.store(scales + row + tl.arange(0, 1), scale_of(tl.max(peaks, axis=1)))


def row_scales(packed: PackedWeight) -> torch.Tensor:
    """(n, k) packed -> (n,) float32, the numbers of `ops.row_scales`."""
    n, k = packed.shape
    scales = torch.empty(n, dtype=torch.float32, device=packed.device)
    if n == 0:
        return scales
    blocks = max(1, TILE_ELEMS // packed.format.block_elems)
    with on_device(packed.device):
        row_scales_kernel[(n,)](
            packed.data,
            scales,
            n,
            k // packed.format.block_elems,
            **format_constants(packed),
            BLOCKS=blocks,
            **EXACT,
        )
    return scales

"""A packed weight for mode int8: all of it as int8 with row scales, and a few columns exactly.

    q[n, k]    = round(w[n, k] * (1 / row_scale[n])), half to even, in -127..127     (`ops/int8.py`)
    kept[j, n] = w[n, columns[j]], float32

Two kernels: the columns are decoded again from their own bytes. Storing them from the first kernel would need a test
and a predicated store for every weight, which costs more instructions than decoding it, to save reading about 64 bytes
per row and column, most of them still in the L2 cache.
"""

# ruff: noqa: N803 - compile-time arguments are in capitals, as in all Triton code

import torch

from ...packed import PackedWeight
from .decode_tile import EXACT, decode_tile, format_constants, tile_grid, tile_origin
from .language import tl, triton
from .machine import on_device
from .rounding import reciprocal, round_to_int8

TILE_ROWS, TILE_COLUMNS = 2, 1024  # every k of Wan's layers and of UMT5's is a multiple of 512
KEPT_ROWS = 64


@triton.jit(do_not_specialize=["rows", "row_blocks"])
def decode_int8_kernel(
    src,
    row_scale,
    q,
    rows,
    row_blocks,
    DECODE: tl.constexpr,
    SUBS: tl.constexpr,
    ELEMS: tl.constexpr,
    BLOCK_BYTES: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCKS: tl.constexpr,
):
    """(rows, row_blocks) blocks at src, (rows,) row_scale -> (rows, row_blocks * SUBS * ELEMS) int8 at q."""
    block_elems: tl.constexpr = SUBS * ELEMS
    first_row, first_block = tile_origin(row_blocks, ROWS, BLOCKS)
    weight = decode_tile(src, first_row, first_block, rows, row_blocks, DECODE, SUBS, ELEMS, BLOCK_BYTES, ROWS, BLOCKS)
    r = tl.arange(0, ROWS)[:, None]
    c = tl.arange(0, BLOCKS * block_elems)[None, :]
    row_inside = r < rows - first_row
    blocks_left = tl.minimum(row_blocks - first_block, BLOCKS).to(tl.int32)
    inside = row_inside & (c < blocks_left * block_elems)
    inverse = reciprocal(tl.load(row_scale + first_row + r, mask=row_inside, other=1.0))
    to = q + (first_row * row_blocks + first_block) * block_elems
    tl.store(to + r * (row_blocks * block_elems) + c, round_to_int8(weight * inverse), mask=inside)


@triton.jit(do_not_specialize=["rows", "row_blocks"])
def decode_columns_kernel(
    src,
    columns,
    kept,
    rows,
    row_blocks,
    DECODE: tl.constexpr,
    SUBS: tl.constexpr,
    ELEMS: tl.constexpr,
    BLOCK_BYTES: tl.constexpr,
    ROWS: tl.constexpr,
    KEPT: tl.constexpr,
):
    """(rows, row_blocks) blocks at src, (KEPT,) columns -> (KEPT, rows) float32 at kept."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None, None]
    j = tl.arange(0, KEPT)[None, :, None]
    column = tl.load(columns + j).to(tl.int32)
    at = column % (SUBS * ELEMS)
    nearest = tl.minimum(row, rows - 1)  # rows past the end repeat the last one
    block = src + (nearest * row_blocks + column // (SUBS * ELEMS)) * BLOCK_BYTES
    weight = DECODE(block, at // ELEMS, at % ELEMS)  # (ROWS, KEPT, 1)
    tl.store(kept + j.to(tl.int64) * rows + row, weight, mask=(row < rows) & (j < KEPT))


def decode_int8(packed: PackedWeight, row_scale: torch.Tensor) -> torch.Tensor:
    """(n, k) packed, (n,) float32 -> (n, k) int8."""
    n, k = packed.shape
    q = torch.empty((n, k), dtype=torch.int8, device=packed.device)
    blocks = max(1, TILE_COLUMNS // packed.format.block_elems)
    row_blocks = k // packed.format.block_elems
    with on_device(packed.device):
        decode_int8_kernel[tile_grid(n, row_blocks, TILE_ROWS, blocks)](
            packed.data, row_scale, q, n, row_blocks, **format_constants(packed), ROWS=TILE_ROWS, BLOCKS=blocks, **EXACT
        )
    return q


def decode_columns(packed: PackedWeight, columns: torch.Tensor) -> torch.Tensor:
    """(n, k) packed, (j,) integers in 0..k-1, j a power of two -> (j, n) float32."""
    n, k = packed.shape
    kept = torch.empty((columns.shape[0], n), dtype=torch.float32, device=packed.device)
    with on_device(packed.device):
        decode_columns_kernel[(-(-n // KEPT_ROWS),)](
            packed.data,
            columns,
            kept,
            n,
            k // packed.format.block_elems,
            **format_constants(packed),
            ROWS=KEPT_ROWS,
            KEPT=columns.shape[0],
            **EXACT,
        )
    return kept

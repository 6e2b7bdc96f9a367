"""triton.decode: a packed weight to float32, bfloat16 or float16 in one pass over its bytes.

Blocks follow each other without gaps, so the weight is decoded as one row of all its blocks.
"""

# ruff: noqa: N803 - compile-time arguments are in capitals, as in all Triton code

import torch

from ...kernel import DecodeKernel
from ...packed import PackedWeight
from .decode_tile import EXACT, decode_tile, format_constants, tile_grid, tile_origin
from .language import tl, triton
from .machine import on_device, refuses_weight

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
TILE_ELEMS = 4096  # 32 weights per thread of 4 warps: four 16-byte stores of 16-bit numbers


@triton.jit(do_not_specialize=["rows", "row_blocks"])
def decode_kernel(
    src,
    out,
    rows,
    row_blocks,
    DECODE: tl.constexpr,
    SUBS: tl.constexpr,
    ELEMS: tl.constexpr,
    BLOCK_BYTES: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCKS: tl.constexpr,
):
    """(rows, row_blocks) blocks at src -> (rows, row_blocks * SUBS * ELEMS) at out, in out's dtype."""
    block_elems: tl.constexpr = SUBS * ELEMS
    first_row, first_block = tile_origin(row_blocks, ROWS, BLOCKS)
    weight = decode_tile(src, first_row, first_block, rows, row_blocks, DECODE, SUBS, ELEMS, BLOCK_BYTES, ROWS, BLOCKS)
    r = tl.arange(0, ROWS)[:, None]
    c = tl.arange(0, BLOCKS * block_elems)[None, :]
    blocks_left = tl.minimum(row_blocks - first_block, BLOCKS).to(tl.int32)
    inside = (r < rows - first_row) & (c < blocks_left * block_elems)
    to = out + (first_row * row_blocks + first_block) * block_elems
    tl.store(to + r * (row_blocks * block_elems) + c, weight.to(out.dtype.element_ty), mask=inside)


def refuses(packed: PackedWeight, dtype: torch.dtype) -> str | None:
    """None, or why this kernel cannot decode the weight to dtype."""
    if dtype not in DTYPES:
        return f"writes float32, bfloat16 and float16, not {dtype}"
    return refuses_weight(packed)


def run(packed: PackedWeight, out: torch.Tensor) -> None:
    """Decode the whole weight into `out`, contiguous."""
    if packed.numel == 0:
        return
    n_blocks = packed.nbytes // packed.format.block_bytes
    blocks = max(1, TILE_ELEMS // packed.format.block_elems)
    with on_device(packed.device):
        decode_kernel[tile_grid(1, n_blocks, 1, blocks)](
            packed.data, out, 1, n_blocks, **format_constants(packed), ROWS=1, BLOCKS=blocks, **EXACT
        )


def decode(packed: PackedWeight, dtype: torch.dtype) -> torch.Tensor:
    """The weight as a fresh tensor of packed.shape."""
    out = torch.empty(packed.shape, dtype=dtype, device=packed.device)
    run(packed, out)
    return out


KERNELS = [DecodeKernel(name="triton.decode", priority=10, refuses=refuses, run=run)]

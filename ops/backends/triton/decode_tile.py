"""The part of every kernel that touches packed bytes: a tile of rows and columns of a weight, decoded to float32.

A tile is ROWS rows by BLOCKS blocks of each, both powers of two. It is decoded as (ROWS * BLOCKS, SUBS, ELEMS), the
shape a format's function works on, and handed on as (ROWS, columns), which is the same order of weights: the compiler
turns the reshape into a choice of which thread decodes what, so that the stores after it are 16 bytes per thread and
whole lines per warp. Rows and blocks past the end repeat the last one, so that no load needs a mask; who stores or
sums has to mask.

Indices: a weight may have more than 2^31 elements, the reach of one tile is smaller. The tile's first byte is found in
64 bits with scalar arithmetic, once per program, and only offsets from there, in 32 bits, are computed per weight.

Bits: gguf-py computes d * q - m as two rounded operations. A compiler that contracts them into a fused multiply-add
rounds once and changes the last bit, so every kernel here is launched with enable_fp_fusion=False (`EXACT`): then
Triton emits mul.rn and sub.rn, which ptxas may not fuse. Where a kernel wants a fused operation it says tl.fma.
"""

# ruff: noqa: N803 - compile-time arguments are in capitals, as in all Triton code

from ...packed import PackedWeight
from .formats import FUNCTIONS
from .language import tl, triton

EXACT = {"enable_fp_fusion": False}


def format_constants(packed: PackedWeight) -> dict[str, object]:
    """The compile-time arguments that say how this weight's blocks are decoded."""
    function = FUNCTIONS[packed.format.name]
    return {
        "DECODE": function.decode,
        "SUBS": function.subs,
        "ELEMS": function.elems,
        "BLOCK_BYTES": packed.format.block_bytes,
    }


@triton.jit
def decode_tile(
    src,
    first_row,
    first_block,
    rows,
    row_blocks,
    DECODE: tl.constexpr,
    SUBS: tl.constexpr,
    ELEMS: tl.constexpr,
    BLOCK_BYTES: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCKS: tl.constexpr,
):
    """Device function: (rows, row_blocks) blocks at src -> (ROWS, BLOCKS * SUBS * ELEMS) float32.

    first_row is an int64 scalar, first_block any integer scalar.
    """
    start = src + (first_row * row_blocks + first_block) * BLOCK_BYTES
    b = tl.arange(0, ROWS * BLOCKS)[:, None, None]
    row = tl.minimum(b // BLOCKS, (rows - 1 - first_row).to(tl.int32))
    column = tl.minimum(b % BLOCKS, (row_blocks - 1 - first_block).to(tl.int32))
    block = start + (row * row_blocks + column) * BLOCK_BYTES
    sub = tl.arange(0, SUBS)[None, :, None]
    e = tl.arange(0, ELEMS)[None, None, :]
    return tl.reshape(DECODE(block, sub, e), (ROWS, BLOCKS * SUBS * ELEMS))


@triton.jit
def tile_origin(row_blocks, ROWS: tl.constexpr, BLOCKS: tl.constexpr):
    """Device function: (first_row, first_block), both int64, of this program in a one-dimensional grid of tiles."""
    across = tl.cdiv(row_blocks, BLOCKS)
    pid = tl.program_id(0)
    return (pid // across).to(tl.int64) * ROWS, (pid % across).to(tl.int64) * BLOCKS


def tile_grid(rows: int, row_blocks: int, tile_rows: int, tile_blocks: int) -> tuple[int]:
    """The grid that `tile_origin` divides."""
    return (-(-rows // tile_rows) * -(-row_blocks // tile_blocks),)

"""triton.row_peaks: the largest |w| of each row in one pass over the packed bytes, without a decoded copy."""

# ruff: noqa: N803 - compile-time arguments are in capitals, as in all Triton code

import torch

from ...kernel import RowPeaksKernel
from ...packed import PackedWeight
from .decode_tile import EXACT, decode_tile, format_constants
from .language import tl, triton
from .machine import on_device, refuses_weight

TILE_ELEMS = 2048


@triton.jit(do_not_specialize=["rows", "row_blocks"])
def row_peaks_kernel(
    src,
    peaks,
    rows,
    row_blocks,
    DECODE: tl.constexpr,
    SUBS: tl.constexpr,
    ELEMS: tl.constexpr,
    BLOCK_BYTES: tl.constexpr,
    BLOCKS: tl.constexpr,
):
    """One program per row: (rows, row_blocks) blocks at src -> (rows,) float32 at peaks."""
    row = tl.program_id(0).to(tl.int64)
    found = tl.zeros((1, BLOCKS * SUBS * ELEMS), tl.float32)
    for first_block in range(0, row_blocks, BLOCKS):  # blocks past the end repeat the last: no new peaks
        weight = decode_tile(src, row, first_block, rows, row_blocks, DECODE, SUBS, ELEMS, BLOCK_BYTES, 1, BLOCKS)
        found = tl.maximum(found, tl.abs(weight))
    tl.store(peaks + row + tl.arange(0, 1), tl.max(found, axis=1))


def refuses(packed: PackedWeight) -> str | None:
    """None, or why this kernel cannot run the call."""
    return refuses_weight(packed)


def run(packed: PackedWeight) -> torch.Tensor:
    """(n, k) packed -> (n,) float32."""
    n, k = packed.shape
    peaks = torch.empty(n, dtype=torch.float32, device=packed.device)
    if n == 0:
        return peaks
    blocks = max(1, TILE_ELEMS // packed.format.block_elems)
    with on_device(packed.device):
        row_peaks_kernel[(n,)](
            packed.data,
            peaks,
            n,
            k // packed.format.block_elems,
            **format_constants(packed),
            BLOCKS=blocks,
            **EXACT,
        )
    return peaks


KERNELS = [RowPeaksKernel(name="triton.row_peaks", priority=10, refuses=refuses, run=run)]

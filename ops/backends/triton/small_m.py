"""triton.small_m: a linear layer on few tokens without a decoded weight; modulations and time embeddings.

With few tokens the layer is bound by reading the weight once, so it is decoded in registers, rounded to x's dtype as
mode exact demands, and multiplied at once, with fused multiply-adds into float32 sums. Tensor cores would not help:
their smallest tile has 16 tokens, Turing's are out of Triton's reach, and up to 16 tokens the arithmetic is small
beside decoding.
"""

# ruff: noqa: N803 - compile-time arguments are in capitals, as in all Triton code

import torch

from ...kernel import LinearKernel
from ...packed import PackedWeight
from .decode import DTYPES
from .decode_tile import EXACT, decode_tile, format_constants
from .language import tl, triton
from .machine import on_device, refuses_weight

MAX_TOKENS = 16  # beyond it the sums no longer fit the registers, and decoding once for all tokens wins
TILE_COLUMNS = 512
MAX_ROWS = 4
TILE_SUMS = 8192  # tokens * rows * columns of a program: 64 sums for each of its 128 threads


@triton.jit(do_not_specialize=["m", "n", "row_blocks"])
def small_m_kernel(
    x,
    src,
    bias,
    y,
    m,
    n,
    row_blocks,
    DECODE: tl.constexpr,
    SUBS: tl.constexpr,
    ELEMS: tl.constexpr,
    BLOCK_BYTES: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCKS: tl.constexpr,
    TOKENS: tl.constexpr,
    HAS_BIAS: tl.constexpr,
):
    """(m, k) x, m <= TOKENS, times (n, row_blocks) blocks at src, plus (n,) bias -> (m, n) at y."""
    columns: tl.constexpr = BLOCKS * SUBS * ELEMS
    k = row_blocks * (SUBS * ELEMS)
    first_row = tl.program_id(0).to(tl.int64) * ROWS
    token = tl.arange(0, TOKENS)[:, None]
    sums = tl.zeros((TOKENS, ROWS, columns), tl.float32)
    for first_block in range(0, row_blocks, BLOCKS):
        weight = decode_tile(src, first_row, first_block, n, row_blocks, DECODE, SUBS, ELEMS, BLOCK_BYTES, ROWS, BLOCKS)
        weight = weight.to(x.dtype.element_ty).to(tl.float32)
        column = first_block * (SUBS * ELEMS) + tl.arange(0, columns)[None, :]
        inside = column < k
        tokens = tl.load(x + token * k + column, mask=inside & (token < m), other=0.0).to(tl.float32)
        weight = tl.where(inside, weight, 0.0)
        sums = tl.fma(tl.expand_dims(tokens, 1), tl.expand_dims(weight, 0), sums)
    result = tl.sum(sums, axis=2)  # (TOKENS, ROWS)
    row = first_row + tl.arange(0, ROWS)[None, :]
    if HAS_BIAS:
        result += tl.load(bias + row, mask=row < n, other=0.0).to(tl.float32)
    tl.store(y + token * n + row, result.to(y.dtype.element_ty), mask=(row < n) & (token < m))


def refuses(x: torch.Tensor, packed: PackedWeight, bias: torch.Tensor | None, mode: str) -> str | None:
    """None, or why this kernel cannot run the call."""
    if mode != "exact":
        return f"computes mode exact only, not {mode}"
    if x.dtype not in DTYPES:
        return f"takes float32, bfloat16 and float16, not {x.dtype}"
    if x.numel() > MAX_TOKENS * packed.shape[1]:
        return f"takes at most {MAX_TOKENS} tokens"
    if x.requires_grad and torch.is_grad_enabled():
        return "has no backward pass"
    return refuses_weight(packed)


def run(x: torch.Tensor, packed: PackedWeight, bias: torch.Tensor | None) -> torch.Tensor:
    """(..., k) float of at most MAX_TOKENS tokens, (n, k) packed, (n,) -> (..., n) in x.dtype."""
    n, k = packed.shape
    tokens = x.reshape(-1, k).contiguous()
    m = tokens.shape[0]
    y = x.new_empty((m, n))
    if y.numel():
        blocks = TILE_COLUMNS // packed.format.block_elems
        slots = triton.next_power_of_2(m)
        rows = min(MAX_ROWS, TILE_SUMS // (slots * TILE_COLUMNS))
        with on_device(packed.device):
            small_m_kernel[(-(-n // rows),)](
                tokens,
                packed.data,
                tokens if bias is None else bias.to(x.dtype),
                y,
                m,
                n,
                k // packed.format.block_elems,
                **format_constants(packed),
                ROWS=rows,
                BLOCKS=blocks,
                TOKENS=slots,
                HAS_BIAS=bias is not None,
                **EXACT,
            )
    return y.view(*x.shape[:-1], n)


KERNELS = [LinearKernel(name="triton.small_m", priority=20, refuses=refuses, run=run)]

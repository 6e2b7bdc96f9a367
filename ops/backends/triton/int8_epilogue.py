"""From the sums of an integer GEMM to the layer's output, in one pass:

    y[m, n] = sums[m, n] * x_scale[m] * w_scale[n]  +  sum_j x_kept[m, j] * w_kept[n, j]  +  bias[n]

As separate torch operations this would read and write the (m, n) numbers in float32 five times over.
"""

# ruff: noqa: N803 - compile-time arguments are in capitals, as in all Triton code

import torch

from ...int8 import OUTLIERS
from .decode_tile import EXACT
from .language import tl, triton
from .machine import on_device

TILE_M, TILE_N = 16, 128


@triton.jit(do_not_specialize=["m", "outliers"])
def epilogue_kernel(
    sums,
    x_scale,
    w_scale,
    x_kept,
    w_kept,
    bias,
    y,
    m,
    n,
    w_kept_stride,
    y_stride,
    outliers,
    HAS_BIAS: tl.constexpr,
    M: tl.constexpr,
    N: tl.constexpr,
):
    """(m, n) int32 at sums, contiguous -> (m, n) at y in y's dtype, its rows y_stride apart."""
    across = tl.cdiv(n, N)
    pid = tl.program_id(0)
    row = (pid // across).to(tl.int64) * M + tl.arange(0, M)[:, None]
    column = pid % across * N + tl.arange(0, N)[None, :]
    row_inside, column_inside = row < m, column < n
    inside = row_inside & column_inside
    result = tl.load(sums + row * n + column, mask=inside, other=0).to(tl.float32)
    result *= tl.load(x_scale + row, mask=row_inside, other=0.0)
    result *= tl.load(w_scale + column, mask=column_inside, other=0.0)
    for j in range(0, outliers):
        x_outlier = tl.load(x_kept + row * outliers + j, mask=row_inside, other=0.0)
        w_outlier = tl.load(w_kept + j * w_kept_stride + column, mask=column_inside, other=0.0)
        result = tl.fma(x_outlier, w_outlier, result)
    if HAS_BIAS:
        result += tl.load(bias + column, mask=column_inside, other=0.0).to(tl.float32)
    tl.store(y + row * y_stride + column, result.to(y.dtype.element_ty), mask=inside)


def epilogue(
    sums: torch.Tensor,
    x_scale: torch.Tensor,
    w_scale: torch.Tensor,
    x_kept: torch.Tensor,
    w_kept: torch.Tensor,
    bias: torch.Tensor | None,
    y: torch.Tensor,
) -> None:
    """Write y (m, n), unit stride along n, from sums (m, n) int32; the rest as in `decode_columns` and `quantize`.

    bias is (n,) of any float dtype; it is added in float32.
    """
    m, n = y.shape
    grid = (-(-m // TILE_M) * -(-n // TILE_N),)
    with on_device(y.device):
        epilogue_kernel[grid](
            sums,
            x_scale,
            w_scale,
            x_kept,
            w_kept,
            w_scale if bias is None else bias,
            y,
            m,
            n,
            w_kept.stride(0),
            y.stride(0),
            OUTLIERS,
            HAS_BIAS=bias is not None,
            M=TILE_M,
            N=TILE_N,
            **EXACT,
        )

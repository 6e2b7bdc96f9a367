"""triton.int8_linear: mode int8 with cuBLAS' integer GEMM (torch._int_mm) between fused kernels.

    quantize (activations.py)  ->  decode_int8, decode_columns  ->  torch._int_mm  ->  epilogue (int8_epilogue.py)

torch._int_mm wants more than 16 tokens, and k and n in multiples of 8; other calls are refused. Its sums are int32,
twice the size of the output, so tokens go through in chunks.

ROCm: torch._int_mm exists there too, but works only where hipBLASLt has integer kernels. As there is no list to
trust, it is tried once per device, on CUDA as well.
"""

import functools

import torch

from ...int8 import OUTLIERS, scale_of
from ...kernel import LinearKernel
from ...packed import PackedWeight
from . import activations, row_peaks
from .decode import DTYPES
from .decode_int8 import decode_columns, decode_int8
from .int8_epilogue import epilogue
from .machine import refuses_weight

LEAST_TOKENS, MULTIPLE = 17, 8  # of torch._int_mm; the multiple is that of k and n
# Bytes of decoded weight and of integer sums held at a time.
WEIGHT_BYTES = 128 << 20
SUMS_BYTES = 128 << 20
TOKEN_MULTIPLE = 256  # chunks are whole tiles of the GEMM


def refuses(x: torch.Tensor, packed: PackedWeight, bias: torch.Tensor | None, mode: str) -> str | None:
    """None, or why this kernel cannot run the call."""
    if mode != "int8":
        return f"computes mode int8 only, not {mode}"
    if x.dtype not in DTYPES:
        return f"takes float32, bfloat16 and float16, not {x.dtype}"
    n, k = packed.shape
    if k % MULTIPLE or n % MULTIPLE:
        return f"needs k and n in multiples of {MULTIPLE}, not {k} and {n}"
    if k < OUTLIERS:
        return f"needs k of {OUTLIERS} or more, not {k}"
    if x.numel() < LEAST_TOKENS * k:
        return f"needs {LEAST_TOKENS} tokens or more"
    if x.requires_grad and torch.is_grad_enabled():
        return "has no backward pass"
    return refuses_weight(packed) or int_mm_fault(packed.device)


@functools.cache
def int_mm_fault(device: torch.device) -> str | None:
    """None, or why torch._int_mm does not work on this device; found once, by trying it."""
    if not hasattr(torch, "_int_mm"):
        return "needs torch._int_mm, which this torch has not"
    try:
        a = torch.ones((32, 32), dtype=torch.int8, device=device)
        right = int(torch._int_mm(a, a.t())[0, 0]) == 32
    except RuntimeError as error:
        return f"needs torch._int_mm, which fails here: {str(error).splitlines()[0]}"
    return None if right else "needs torch._int_mm, which computes wrong sums here"


def run(x: torch.Tensor, packed: PackedWeight, bias: torch.Tensor | None) -> torch.Tensor:
    """(..., k) float, (n, k) packed, (n,) -> (..., n) in x.dtype."""
    n, k = packed.shape
    tokens = x.reshape(-1, k).contiguous()
    y = x.new_empty((tokens.shape[0], n))
    if y.numel():
        scale = scale_of(row_peaks.run(packed)) if packed.row_scale is None else packed.row_scale
        a = activations.quantize(tokens)
        rows = max(1, WEIGHT_BYTES // k // MULTIPLE) * MULTIPLE
        for start in range(0, n, rows):
            stop = min(start + rows, n)
            part_bias = None if bias is None else bias[start:stop]
            _rows(a, packed.rows(start, stop), scale[start:stop], part_bias, y[:, start:stop])
    return y.view(*x.shape[:-1], n)


def _rows(
    a: activations.QuantizedActivations,
    packed: PackedWeight,
    scale: torch.Tensor,
    bias: torch.Tensor | None,
    y: torch.Tensor,
) -> None:
    """Write the outputs (m, rows) of some rows of the weight to y."""
    q, kept = decode_int8(packed, scale), decode_columns(packed, a.columns)
    step = max(1, SUMS_BYTES // (4 * q.shape[0]) // TOKEN_MULTIPLE) * TOKEN_MULTIPLE
    for start in range(0, a.q.shape[0], step):
        stop = min(start + step, a.q.shape[0])
        first = max(0, min(start, stop - LEAST_TOKENS))  # a short last chunk begins earlier
        sums = torch._int_mm(a.q[first:stop], q.t())
        epilogue(sums, a.scale[first:stop], scale, a.kept[first:stop], kept, bias, y[first:stop])


KERNELS = [LinearKernel(name="triton.int8_linear", priority=10, refuses=refuses, run=run)]

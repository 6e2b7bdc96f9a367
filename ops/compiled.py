"""`linear` and `dequantize_rows` as one opaque operation each, for code that torch.compile traces.

The compiler keeps one graph around `wan_gguf::linear` and `wan_gguf::dequantize_rows`: it sees their tensors and the
shape of the result, while the dispatcher, its caches and the kernels run as ever when the graph runs. A PackedWeight
is taken apart into what an operation may take: data, row_scale, and the name of the format. There is no backward pass.
"""

from collections.abc import Callable

import torch

from . import eager
from .formats import FORMATS
from .packed import PackedWeight

NAMESPACE = "wan_gguf"


def linear(x: torch.Tensor, packed: PackedWeight, bias: torch.Tensor | None, mode: str) -> torch.Tensor:
    """As `linear.linear`, whose checks have been made."""
    n, k = packed.shape
    return torch.ops.wan_gguf.linear(x, packed.data, packed.row_scale, bias, packed.format.name, n, k, mode)


def dequantize_rows(packed: PackedWeight, rows: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """As `dequantize.dequantize_rows`, whose checks have been made."""
    n, k = packed.shape
    return torch.ops.wan_gguf.dequantize_rows(packed.data, rows, packed.format.name, n, k, dtype)


def _linear(
    x: torch.Tensor,
    data: torch.Tensor,
    row_scale: torch.Tensor | None,
    bias: torch.Tensor | None,
    format_name: str,
    n: int,
    k: int,
    mode: str,
) -> torch.Tensor:
    packed = PackedWeight(data, FORMATS[format_name], (n, k), row_scale)
    return eager.linear(x, packed, bias, mode).contiguous()  # the strides that _linear_shape promises


def _linear_shape(
    x: torch.Tensor,
    data: torch.Tensor,
    row_scale: torch.Tensor | None,
    bias: torch.Tensor | None,
    format_name: str,
    n: int,
    k: int,
    mode: str,
) -> torch.Tensor:
    return x.new_empty((*x.shape[:-1], n))


def _dequantize_rows(
    data: torch.Tensor, rows: torch.Tensor, format_name: str, n: int, k: int, dtype: torch.dtype
) -> torch.Tensor:
    return eager.decode_rows(PackedWeight(data, FORMATS[format_name], (n, k)), rows, dtype)


def _dequantize_rows_shape(
    data: torch.Tensor, rows: torch.Tensor, format_name: str, n: int, k: int, dtype: torch.dtype
) -> torch.Tensor:
    return data.new_empty((*rows.shape, k), dtype=dtype)


def register(name: str, run: Callable[..., torch.Tensor], shape: Callable[..., torch.Tensor]) -> None:
    """Make `run` the operation wan_gguf::name, and `shape` what the compiler computes in its place.

    Raises RuntimeError when there is such an operation: torch would replace it without a word, under code that is
    compiled already.
    """
    if hasattr(getattr(torch.ops, NAMESPACE), name):
        raise RuntimeError(
            f"custom operation {NAMESPACE}::{name}: it is registered already, by another copy of this pack in the "
            "process; one copy is allowed; remove the other from custom_nodes"
        )
    torch.library.custom_op(f"{NAMESPACE}::{name}", run, mutates_args=()).register_fake(shape)


register("linear", _linear, _linear_shape)
register("dequantize_rows", _dequantize_rows, _dequantize_rows_shape)

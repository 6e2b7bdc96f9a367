"""The fused product from Python's side: activations packed, a job made, its outputs written into a tensor."""

from dataclasses import dataclass

import torch

from ...int8 import OUTLIERS, scale_of
from ...packed import PackedWeight
from . import threads
from .gemm_emit import GemmJob, gemm_kernel, row_words
from .int8_operands import Int8Operands
from .job import start
from .kinds import WORD_BYTES, Float32, Int8Quads, Int16Pairs, Kind
from .machine import machine
from .pack_emit import PackJob, pack_kernel
from .peaks import column_peaks, row_peaks
from .tile import K_BLOCK, PANEL_ROWS, Tile, choose_tile

# Packed activations held at a time. More tokens are taken in rounds, each of which decodes the weight again: 3 ms where
# the product of a round takes 300.
PACKED_BYTES = 64 << 20


@dataclass(frozen=True)
class Weight:
    """What a product needs to know of the weight; `scales` of its rows only in mode int8."""

    packed: PackedWeight
    bias: torch.Tensor
    scales: torch.Tensor | None = None


def exact(x: torch.Tensor, packed: PackedWeight, bias: torch.Tensor | None) -> torch.Tensor:
    """(..., k) float32, bfloat16 or float16, (n, k) packed -> (..., n) in x.dtype; sums are float32."""
    return _product(x, Weight(packed, _bias(packed, bias)), Float32())


def int8(x: torch.Tensor, packed: PackedWeight, bias: torch.Tensor | None) -> torch.Tensor:
    """The same in mode int8: the integers of ops.int8, summed exactly."""
    scales = scale_of(row_peaks(packed)) if packed.row_scale is None else packed.row_scale
    return _product(x, Weight(packed, _bias(packed, bias), scales), integer_kind())


def integer_kind() -> Kind:
    """What this CPU multiplies integers with."""
    return Int16Pairs() if Int8Quads.refuses(machine()) else Int8Quads()


def _bias(packed: PackedWeight, bias: torch.Tensor | None) -> torch.Tensor:
    return torch.zeros(packed.shape[0]) if bias is None else bias.float().contiguous()


def _product(x: torch.Tensor, weight: Weight, kind: Kind) -> torch.Tensor:
    n, k = weight.packed.shape
    tokens = x.reshape(-1, k)
    if tokens.stride(1) != 1:
        tokens = tokens.contiguous()
    out = x.new_empty((tokens.shape[0], n))
    outliers = None if kind.mode == "exact" else _columns(tokens)
    step = max(1, PACKED_BYTES // (k * WORD_BYTES))
    for at in range(0, tokens.shape[0], step):
        _round(tokens[at : at + step], weight, kind, out[at : at + step], outliers)
    return out.view(*x.shape[:-1], n)


def _columns(tokens: torch.Tensor) -> torch.Tensor:
    """The columns that mode int8 keeps apart, ascending: the same choice as ops.int8."""
    return column_peaks(tokens).topk(OUTLIERS).indices.sort().values


def _round(x: torch.Tensor, weight: Weight, kind: Kind, out: torch.Tensor, columns: torch.Tensor | None) -> None:
    """Some tokens: (m, k) -> out (m, n)."""
    (m, k), (n, _), tile = x.shape, weight.packed.shape, choose_tile(x.shape[0], kind.spare_registers)
    tiles, blocks, workers = -(-m // tile.tokens), k // K_BLOCK, torch.get_num_threads()
    extra = None
    if columns is not None and weight.scales is not None:
        extra = Int8Operands(x, columns, tile, tiles, weight.scales)
    packed_x = _pack(x, kind, tile, tiles, extra)
    weights = torch.empty(workers, PANEL_ROWS, row_words(kind), dtype=torch.int32)
    sums = torch.empty(workers, tiles, PANEL_ROWS, tile.tokens, dtype=torch.int32)
    job = start(
        GemmJob,
        count=-(-n // PANEL_ROWS),
        step=1,
        x=packed_x.data_ptr(),
        weight=weight.packed.data.data_ptr(),
        row_bytes=weight.packed.format.row_bytes(k),
        n=n,
        m=m,
        k_blocks=blocks,
        tiles=tiles,
        bias=weight.bias.data_ptr(),
        out=out.data_ptr(),
        out_row_bytes=out.stride(0) * out.element_size(),
        weights=weights.data_ptr(),
        sums=sums.data_ptr(),
        **(extra.addresses() if extra else {}),
    )
    threads.run(gemm_kernel(weight.packed.format.name, kind, tile, dtype_name(out.dtype)), job, workers)


def _pack(x: torch.Tensor, kind: Kind, tile: Tile, tiles: int, extra: Int8Operands | None) -> torch.Tensor:
    m, k = x.shape
    packed = torch.empty(tiles * tile.tokens * k // kind.k_per_word, dtype=torch.int32)
    job = start(
        PackJob,
        count=tiles,
        step=1,
        x=x.data_ptr(),
        row_bytes=x.stride(0) * x.element_size(),
        m=m,
        k_blocks=k // K_BLOCK,
        tiles=tiles,
        target=packed.data_ptr(),
        scales=extra.x_reciprocals.data_ptr() if extra else 0,
        keep=extra.keep.data_ptr() if extra else 0,
        offsets=extra.x_offsets.data_ptr() if extra else 0,
    )
    threads.run(pack_kernel(kind, tile, dtype_name(x.dtype)), job)
    return packed


def dtype_name(dtype: torch.dtype) -> str:
    """torch.bfloat16 -> "bfloat16"."""
    return str(dtype).removeprefix("torch.")

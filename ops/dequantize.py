"""Packed weights to real numbers, whole or by rows, with bounded scratch memory.

In float32 the values are exactly those of gguf-py's `dequantize`; other dtypes are those values rounded once.
"""

import torch

from .packed import PackedWeight

# Elements decoded at a time. Decoding needs up to about 16 bytes of scratch per element: 4 MiB stays in a CPU's cache,
# 64 MiB keeps a GPU busy.
CPU_CHUNK_ELEMS = 1 << 18
GPU_CHUNK_ELEMS = 1 << 22


def _decode_into(out: torch.Tensor, blocks: torch.Tensor, packed: PackedWeight) -> None:
    """Decode (n_blocks, block_bytes) uint8 into `out`, (n_blocks, block_elems) of any float dtype, chunk by chunk."""
    chunk_elems = CPU_CHUNK_ELEMS if blocks.device.type == "cpu" else GPU_CHUNK_ELEMS
    step = max(1, chunk_elems // packed.format.block_elems)
    for start in range(0, blocks.shape[0], step):
        stop = start + step
        out[start:stop] = packed.format.decode(blocks[start:stop], out.dtype)


def dequantize(packed: PackedWeight, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """The weight as a fresh tensor of packed.shape on packed.device."""
    out = torch.empty(packed.shape, dtype=dtype, device=packed.device)
    _decode_into(out.view(-1, packed.format.block_elems), packed.blocks(), packed)
    return out


def dequantize_row_range(packed: PackedWeight, start: int, stop: int, dtype: torch.dtype) -> torch.Tensor:
    """Rows start..stop of a 2-D weight: (stop - start, k) dtype, fresh."""
    k = packed.shape[-1]
    row_bytes = packed.format.row_bytes(k)
    rows = packed.data[start * row_bytes : stop * row_bytes]
    return dequantize(PackedWeight(rows, packed.format, (stop - start, k)), dtype)


def dequantize_rows(packed: PackedWeight, rows: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Gather rows of a 2-D weight, as an embedding does: (n, k) packed, integer rows of any shape -> rows.shape + (k,).

    Only the rows asked for are read and decoded. Raises IndexError for a row outside 0..n-1.
    """
    if len(packed.shape) != 2:
        raise ValueError(f"dequantize_rows: the weight has shape {packed.shape}; two dimensions are allowed")
    k = packed.shape[1]
    table = packed.data.view(packed.shape[0], packed.format.row_bytes(k))
    index = rows.to(device=packed.device, dtype=torch.int64).reshape(-1)
    picked = table.index_select(0, index).view(-1)  # (rows.numel() * row_bytes,)
    return dequantize(PackedWeight(picked, packed.format, (*rows.shape, k)), dtype)

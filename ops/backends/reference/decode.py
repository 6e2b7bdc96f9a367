"""Decoding in pure torch, chunk by chunk: the oracle of every other decode kernel.

In float32 the values are exactly those of gguf-py's `dequantize`; other dtypes are those values rounded once.
"""

import torch

from ...kernel import DecodeKernel
from ...packed import PackedWeight

# Elements decoded at a time. Decoding needs up to about 16 bytes of scratch per element: 4 MiB stays in a CPU's cache,
# 64 MiB keeps a GPU busy.
CPU_CHUNK_ELEMS = 1 << 18
GPU_CHUNK_ELEMS = 1 << 22


def refuses(packed: PackedWeight, dtype: torch.dtype) -> str | None:
    """Never refuses."""
    return None


def run(packed: PackedWeight, out: torch.Tensor) -> None:
    """Decode the whole weight into `out`."""
    blocks, values = packed.blocks(), out.view(-1, packed.format.block_elems)
    chunk_elems = CPU_CHUNK_ELEMS if blocks.device.type == "cpu" else GPU_CHUNK_ELEMS
    step = max(1, chunk_elems // packed.format.block_elems)
    for start in range(0, blocks.shape[0], step):
        stop = start + step
        values[start:stop] = packed.format.decode(blocks[start:stop], out.dtype)


def decode(packed: PackedWeight, dtype: torch.dtype) -> torch.Tensor:
    """The weight as a fresh tensor of packed.shape."""
    out = torch.empty(packed.shape, dtype=dtype, device=packed.device)
    run(packed, out)
    return out


KERNELS = [DecodeKernel(name="reference.decode", priority=0, refuses=refuses, run=run)]

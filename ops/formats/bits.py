"""Bit unpacking shared by the block formats. Numbers in a block are little-endian; fields count from the lowest bit."""

import torch


def half_floats(blocks: torch.Tensor, start: int, count: int = 1) -> torch.Tensor:
    """`count` fp16 fields at byte `start`: (n_blocks, block_bytes) uint8 -> (n_blocks, count) float32."""
    return blocks[:, start : start + 2 * count].view(torch.float16).to(torch.float32)


def words(numbers: torch.Tensor) -> torch.Tensor:
    """(..., 4 * m) uint8 -> (..., m) int32, copied: in a block they need not be aligned to four bytes."""
    return numbers.clone(memory_format=torch.contiguous_format).view(torch.int32)


def split_nibbles(qs: torch.Tensor) -> torch.Tensor:
    """(..., n) uint8 -> (..., 2n) uint8: all low nibbles, then all high nibbles."""
    return torch.cat((qs & 15, qs >> 4), dim=-1)


def planes(numbers: torch.Tensor, width: int, count: int) -> torch.Tensor:
    """(..., m) integers -> (..., count, m): plane p holds the `width` bits from bit p * width on of every number."""
    return torch.stack([(numbers >> (p * width)) & ((1 << width) - 1) for p in range(count)], dim=-2)


def fields(numbers: torch.Tensor, width: int, count: int) -> torch.Tensor:
    """(..., m) integers -> (..., m * count): the first `count` fields of `width` bits of each number side by side."""
    split = [(numbers >> (p * width)) & ((1 << width) - 1) for p in range(count)]
    return torch.stack(split, dim=-1).flatten(-2)


def lookup(table: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """(entries, ...) constants on the CPU, integers of any shape -> index.shape + table.shape[1:], on index.device."""
    picked = table.to(index.device).index_select(0, index.reshape(-1).to(torch.int32))
    return picked.view(*index.shape, *table.shape[1:])


def unpack_scales(scales: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(n_blocks, 12) uint8 -> scales and minima, each (n_blocks, 8) uint8 in 0..63 (Q4_K and Q5_K share this).

    Byte j < 4 holds scale j, byte 4 + j minimum j, in the low six bits; bytes 8..11 hold the low nibbles of scales and
    minima 4..7, whose two high bits are the two high bits of bytes 0..7 (`get_scale_min_k4` in ggml-quants.c).
    """
    first, second, nibbles = scales[:, 0:4], scales[:, 4:8], scales[:, 8:12]  # (n_blocks, 4) each
    sc = torch.cat((first & 63, (nibbles & 15) | ((first >> 6) << 4)), dim=1)
    mn = torch.cat((second & 63, (nibbles >> 4) | ((second >> 6) << 4)), dim=1)
    return sc, mn

"""What the IQ formats share: grids, the points that groups of 8 or 4 weights may lie on, and the signs of the weights.

A grid of ggml-common.h is a list of points whose coordinates come from a few levels. Read with the first coordinate as
the lowest digit, the level's number as the digit, every point is a number, and each of ggml's lists is in ascending
order. So a grid is a set of numbers, kept as a bitmap: bit n % 8 of byte n // 8 tells whether point n is in the grid.
"""

import torch


def grid(bitmap: str, levels: tuple[int, ...], length: int) -> torch.Tensor:
    """Bitmap in hex -> (entries, length) int8, entry i the i-th smallest number's digits as levels."""
    data = torch.tensor(list(bytes.fromhex(bitmap)), dtype=torch.uint8, device="cpu")
    bits = (data.unsqueeze(1) >> torch.arange(8, device="cpu")) & 1
    numbers = bits.flatten().nonzero()  # (entries, 1)
    places = torch.tensor([len(levels) ** j for j in range(length)], device="cpu")
    digits = numbers // places % len(levels)  # (entries, length)
    return torch.tensor(levels, dtype=torch.int8, device="cpu")[digits]


def _signs(masks: list[int]) -> torch.Tensor:
    """(len(masks), 8) int8: -1 where bit j of the mask is set, else 1."""
    signs = [[-1 if mask >> j & 1 else 1 for j in range(8)] for mask in masks]
    return torch.tensor(signs, dtype=torch.int8, device="cpu")


# Index: a byte, a bit per weight.
SIGNS = _signs(list(range(256)))
# Index: seven bits; the eighth makes the number of minus signs even (`ksigns_iq2xs` in ggml-common.h).
EVEN_SIGNS = _signs([index | index.bit_count() % 2 << 7 for index in range(128)])

"""Which kernel will multiply the weights of a model, asked without computing anything.

The calls are made of tensors of the right shapes whose memory is never written or read.
"""

import torch

from .block_format import BlockFormat
from .dispatch import Choice, choose_linear
from .formats import FORMATS
from .kernel import LinearKernel
from .packed import PackedWeight

TYPICAL_TOKENS, TYPICAL_SIZE = 1024, 256  # a video's tokens; rows and columns that every kernel takes


def typical_weight(block_format: BlockFormat, device: torch.device, size: int = TYPICAL_SIZE) -> PackedWeight:
    """(size, size), with row scales."""
    data = torch.empty(size * block_format.row_bytes(size), dtype=torch.uint8, device=device)
    return PackedWeight(data, block_format, (size, size), torch.empty(size, device=device))


def typical_operands(
    packed: PackedWeight, dtype: torch.dtype, tokens: int = TYPICAL_TOKENS
) -> tuple[torch.Tensor, PackedWeight, torch.Tensor]:
    """x (tokens, k), the weight, bias (n,): what a linear layer is called with."""
    n, k = packed.shape
    x = torch.empty((tokens, k), dtype=dtype, device=packed.device)
    return x, packed, torch.empty(n, dtype=dtype, device=packed.device)


def typical_linear(format_name: str, device: torch.device, dtype: torch.dtype, mode: str) -> Choice[LinearKernel]:
    """The choice for many tokens of `dtype` and a weight of that format on `device`, and who refused before."""
    return choose_linear(*typical_operands(typical_weight(FORMATS[format_name], device), dtype), mode)

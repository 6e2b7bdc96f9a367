"""Which kernel will multiply the weights of a model, asked without computing anything."""

import torch

from .dispatch import Choice, choose_linear
from .formats import FORMATS
from .kernel import LinearKernel
from .packed import PackedWeight

TYPICAL_TOKENS, TYPICAL_SIZE = 1024, 256  # a video's tokens; rows and columns that every kernel takes


def typical_linear(format_name: str, device: torch.device, dtype: torch.dtype, mode: str) -> Choice[LinearKernel]:
    """The choice for many tokens of `dtype` and a weight of that format on `device`, and who refused before."""
    block_format = FORMATS[format_name]
    data = torch.empty(TYPICAL_SIZE * block_format.row_bytes(TYPICAL_SIZE), dtype=torch.uint8, device=device)
    x = torch.empty(TYPICAL_TOKENS, TYPICAL_SIZE, dtype=dtype, device=device)
    scale = torch.empty(TYPICAL_SIZE, device=device) if mode == "int8" else None
    return choose_linear(x, PackedWeight(data, block_format, (TYPICAL_SIZE, TYPICAL_SIZE), scale), None, mode)

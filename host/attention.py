"""Attention whose result does not depend on free memory.

On a CPU, and on a GPU without a better kernel, the host takes `attention_sub_quad` or `attention_split`, which cut the
work into pieces sized by the memory that happens to be free; the pieces change the rounding. torch's own does not.
"""

from collections.abc import Callable
from typing import Any

import torch
from comfy.ldm.modules import attention

OVERRIDE_KEY = "optimized_attention_override"  # the host's, in transformer_options


def steady_attention(transformer_options: dict) -> tuple[dict, str]:
    """(options with an override where one is needed, name of the attention that will run); an override there stays."""
    if OVERRIDE_KEY in transformer_options:
        return transformer_options, "override"
    chosen = attention.optimized_attention
    if chosen not in (attention.attention_sub_quad, attention.attention_split):
        return transformer_options, chosen.__name__.removeprefix("attention_")
    return {**transformer_options, OVERRIDE_KEY: _pytorch_instead}, "pytorch"


def _pytorch_instead(function: Callable, *args: Any, **kwargs: Any) -> torch.Tensor:
    return attention.attention_pytorch(*args, **kwargs)

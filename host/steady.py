"""Activation functions on the CPU whose bits do not depend on the number of threads, nor on where a value lies.

torch computes such a function in whole vectors, and what is left at the end of each thread's share with other code that
rounds differently. Here every share is whole vectors; the rest of the tensor is padded to some.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from comfy.text_encoders.t5 import T5DenseActDense, T5DenseGatedActDense

Function = Callable[[torch.Tensor], torch.Tensor]
VECTORS = 64  # values in two AVX512 registers of 16-bit numbers: what torch's loops take at a time, at most
GRAIN = 32768  # values below which torch does not share work out (at::internal::GRAIN_SIZE)


def steady(function: Function, x: torch.Tensor) -> torch.Tensor:
    """`function`, which works on each value by itself, of x of any shape; on other devices than a CPU just that."""
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return function(x)
    flat = x.reshape(-1)
    whole = _whole(flat.numel())
    if whole == flat.numel():
        return function(flat).view(x.shape)
    out = torch.empty_like(flat)
    out[:whole] = function(flat[:whole])
    rest = flat.new_zeros(-(-(flat.numel() - whole) // VECTORS) * VECTORS)
    rest[: flat.numel() - whole] = flat[whole:]
    out[whole:] = function(rest)[: flat.numel() - whole]
    return out.view(x.shape)


def _whole(numel: int) -> int:
    """The most values that any sharing among torch's threads cuts into whole vectors; the rest is below GRAIN."""
    threads = torch.get_num_threads()
    while True:
        used = max(1, min(threads, -(-numel // GRAIN)))
        unit = VECTORS * math.lcm(threads, used)  # torch's GELU shares out smaller tensors than its other functions
        if numel % unit == 0:
            return numel
        numel -= numel % unit


class Steady(torch.nn.Module):
    """A module of the host's that is such a function, made steady."""

    def __init__(self, function: torch.nn.Module):
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return steady(self.function, x)


def make_steady(model: torch.nn.Module) -> None:
    """Replace the GELU and SiLU modules anywhere in the model, and the function of the host's T5 layers."""
    for owner in list(model.modules()):
        if isinstance(owner, T5DenseGatedActDense | T5DenseActDense):
            owner.act = partial(steady, owner.act)
        for name, child in owner.named_children():
            if type(child) in (torch.nn.GELU, torch.nn.SiLU):
                setattr(owner, name, Steady(child))

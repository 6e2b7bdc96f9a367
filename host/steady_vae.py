"""The host's Wan VAEs on the CPU with bits that do not depend on the number of threads.

Three things in them depend on it; each is done here as two threads do it:

    SiLU              the ends of the threads' shares, see steady.py
    small products    torch gives convolutions of few values, and all of the attention, to a BLAS that cuts small
                      products along the sum by the number of threads; on two threads they take no longer
    one thread        1x1 convolutions go to another library then (use_mkldnn in torch's Convolution.cpp)

Larger products gave the same bits for 2 to 64 threads. So the frames are those of the host on two threads, bit for bit.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from comfy.ldm.wan.vae import AttentionBlock

from .steady import steady

THREADS = 2
FEW = 20480  # batch * channels * frames * rows: what torch asks for before it takes oneDNN
FEW_POSITIONS = 1024  # of an attention
Function = Callable[..., torch.Tensor]


@contextmanager
def steady_vae(network: torch.nn.Module) -> Iterator[None]:
    """Within it the VAE's network is steady where it is on a CPU; afterwards it is unchanged."""
    changed = []
    threads = torch.get_num_threads()
    torch.set_num_threads(max(threads, THREADS))  # all at once: to change it for each layer takes longer than the layer
    try:
        for module in network.modules():
            change = _change(module)
            if change is not None:
                name, function = change
                setattr(module, name, function)  # over the method of its class
                changed.append((module, name))
        yield
    finally:
        for module, name in changed:
            delattr(module, name)
        torch.set_num_threads(threads)


def _change(module: torch.nn.Module) -> tuple[str, Function] | None:
    """The method that is to be another one, and what it is then."""
    if isinstance(module, torch.nn.SiLU):
        return "forward", partial(steady, module.forward)
    if isinstance(module, AttentionBlock):
        return "forward", partial(_product, module.forward, _is_small_attention)
    if isinstance(module, torch.nn.Conv2d | torch.nn.Conv3d):  # its forward may join frames of before to the input
        return "_conv_forward", partial(_product, module._conv_forward, _is_small_convolution)
    return None


def _is_small_attention(x: torch.Tensor) -> bool:
    return math.prod(x.shape[-2:]) <= FEW_POSITIONS


def _is_small_convolution(x: torch.Tensor) -> bool:
    return math.prod(x.shape[:4]) <= FEW


def _product(
    function: Function, is_small: Callable[[torch.Tensor], bool], x: torch.Tensor, *rest, **named
) -> torch.Tensor:
    """`function` of x (N, C, H, W) or (N, C, T, H, W), on two threads where their number would matter."""
    threads = torch.get_num_threads()
    if x.device.type != "cpu" or threads == THREADS or not is_small(x):
        return function(x, *rest, **named)
    torch.set_num_threads(THREADS)
    try:
        return function(x, *rest, **named)
    finally:
        torch.set_num_threads(threads)

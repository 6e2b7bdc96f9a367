"""The host's Wan VAEs on the CPU with bits that depend neither on the number of threads nor on free memory.

Three things in them depend on the threads; each is done here as two threads do it:

    SiLU              the ends of the threads' shares, see steady.py
    small products    torch gives convolutions of few values, and all of the attention, to a BLAS that cuts small
                      products along the sum by the number of threads; on two threads they take no longer
    one thread        1x1 convolutions go to another library then (use_mkldnn in torch's Convolution.cpp)

Larger products gave the same bits for 2 to 64 threads. So the frames are those of the host on two threads, bit for bit,
where it has the memory for its attention in one go, as vae_attention.py takes it for frames up to 1280 x 720 and more.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from comfy.ldm.modules.diffusionmodules.model import normal_attention
from comfy.ldm.wan.vae import AttentionBlock

from .steady import steady
from .vae_attention import attention

THREADS = 2
FEW = 20480  # batch * channels * frames * rows: what torch asks for before it takes oneDNN
FEW_POSITIONS = 1024  # of an attention
Function = Callable[..., torch.Tensor]


@contextmanager
def steady_vae(network: torch.nn.Module) -> Iterator[None]:
    """Within it the VAE's network is steady where it is on a CPU; afterwards it is unchanged."""
    threads = torch.get_num_threads()
    with ExitStack() as undo:
        undo.callback(torch.set_num_threads, threads)
        torch.set_num_threads(max(threads, THREADS))  # all at once: for each layer it would take longer than the layer
        for module in network.modules():
            for name, function in _changes(module):
                undo.callback(_put_back, module, name, vars(module).get(name))
                setattr(module, name, function)
        yield


def _changes(module: torch.nn.Module) -> Iterator[tuple[str, Function]]:
    """The methods that are to be others, and what they are then."""
    if isinstance(module, torch.nn.SiLU):
        yield "forward", partial(steady, module.forward)
    if isinstance(module, AttentionBlock):
        yield "forward", partial(_product, module.forward, _is_small_attention)
        if module.optimized_attention is normal_attention:  # torch's own, on most GPUs, has no slices
            yield "optimized_attention", _attention
    if isinstance(module, torch.nn.Conv2d | torch.nn.Conv3d):  # its forward may join frames of before to the input
        yield "_conv_forward", partial(_product, module._conv_forward, _is_small_convolution)


def _put_back(module: torch.nn.Module, name: str, value: Any) -> None:
    """`value`: what the module itself had of that name; None where it was its class's method."""
    if value is None:
        delattr(module, name)
    else:
        setattr(module, name, value)


def _attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return (attention if q.device.type == "cpu" else normal_attention)(q, k, v)


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

"""Decode kernel for the CPU: one pass over the packed bytes, on all of torch's threads."""

import torch

from ...kernel import DecodeKernel
from ...packed import PackedWeight
from . import machine, threads

try:
    from . import decode_emit
    from .formats import DECODERS
    from .job import start
    from .numbers import SIZES
except ImportError:  # llvmlite is not there; `refuses` says so
    pass

CHUNK_ELEMS = 1 << 16  # decoded by a thread at a time


def refuses(packed: PackedWeight, dtype: torch.dtype) -> str | None:
    """None, or why this kernel cannot run the call."""
    if packed.device.type != "cpu":
        return "runs on the CPU only"
    problem = machine.problem()
    if problem:
        return problem
    if packed.format.name not in DECODERS:
        return f"has no {packed.format.name}"
    if packed.numel % DECODERS[packed.format.name].elems:
        return f"takes {packed.format.name} in whole blocks of {DECODERS[packed.format.name].elems}"
    return None if _name(dtype) in SIZES else f"decodes to {', '.join(SIZES)} only"


def run(packed: PackedWeight, out: torch.Tensor) -> None:
    """Decode the whole weight into `out`."""
    elems = DECODERS[packed.format.name].elems
    kernel = decode_emit.decode_kernel(packed.format.name, _name(out.dtype))
    job = start(
        decode_emit.DecodeJob,
        count=packed.numel // elems,
        step=max(1, CHUNK_ELEMS // elems),
        source=packed.data.data_ptr(),
        target=out.data_ptr(),
    )
    threads.run(kernel, job, 1 if packed.numel <= CHUNK_ELEMS else None)


def decode(packed: PackedWeight, dtype: torch.dtype) -> torch.Tensor:
    """The weight as a fresh tensor of packed.shape."""
    out = torch.empty(packed.shape, dtype=dtype)
    run(packed, out)
    return out


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


KERNELS = [DecodeKernel(name="cpu.decode", priority=10, refuses=refuses, run=run)]

"""Whether this backend can run here: the package, the device, the format, the alignment.

ROCm builds of torch also call their devices "cuda" and bring their own Triton; the kernels use nothing that only one
of the two compilers has.
"""

import contextlib
import functools

import torch

from ...packed import PackedWeight
from .formats import FUNCTIONS
from .language import MISSING, tl, triton

OLDEST = (7, 5)  # Turing, the oldest NVIDIA generation that this Triton compiles for


def refuses_weight(packed: PackedWeight) -> str | None:
    """None, or why no kernel of this backend can read the weight where it is."""
    if MISSING:
        return "needs the triton package"
    if packed.device.type != "cuda":
        return f"needs a CUDA or ROCm device, not {packed.device.type}"
    if packed.format.name not in FUNCTIONS:
        return f"has no kernel for {packed.format.name}"
    if packed.data.data_ptr() % 2:
        return "needs packed data at an even address"
    return device_fault(packed.device)


@functools.cache
def device_fault(device: torch.device) -> str | None:
    """None, or why Triton cannot run on this CUDA or ROCm device; found once, by running a kernel of one element.

    Triton builds its launcher with the machine's C compiler on first use, so it can be installed and yet not work.
    """
    if torch.version.hip is None and torch.cuda.get_device_capability(device) < OLDEST:
        return f"needs compute capability {OLDEST[0]}.{OLDEST[1]} or newer"
    try:
        found = torch.zeros(1, dtype=torch.int32, device=device)
        with on_device(device):
            _write_one[(1,)](found)
        return None if found.item() == 1 else "got a wrong result from Triton's first kernel"
    except Exception as error:  # a toolchain at work: no common base class
        return f"cannot use Triton here: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


@triton.jit
def _write_one(out):
    tl.store(out, 1)


def on_device(device: torch.device) -> contextlib.AbstractContextManager:
    """Triton launches on the current device: make it the weight's. CPU tensors only reach Triton's interpreter."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()

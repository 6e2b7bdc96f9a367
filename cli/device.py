"""Whether the environment's torch can use a GPU here; asked without starting torch where no device file says so."""

import sys
from pathlib import Path

from .process import succeeds

_ASK = """
import sys, torch
mps = getattr(torch.backends, "mps", None)
xpu = getattr(torch, "xpu", None)
sys.exit(not (torch.cuda.is_available() or (mps and mps.is_available()) or (xpu and xpu.is_available())))
"""
_LINUX_DEVICES = ("nvidia0", "nvidiactl", "kfd", "dxg", "dri")  # NVIDIA, AMD, WSL, Intel


def has_accelerator(python: Path) -> bool:
    """Ask the environment of `python`; seconds, except on Linux without any GPU device, where the answer is plain."""
    if sys.platform.startswith("linux") and not any(Path("/dev", name).exists() for name in _LINUX_DEVICES):
        return False
    return succeeds([python, "-c", _ASK])

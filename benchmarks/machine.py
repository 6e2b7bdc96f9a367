"""What this CPU can do, and the dtype the exact path computes in because of it."""

import os
import platform
from pathlib import Path

import torch

from wan_gguf.ops.native import has_native_bf16

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def exact_dtype(wanted: str = "auto") -> str:
    """`bf16` or `fp32`: what was asked for, or what our loader's `auto` takes on this machine."""
    if wanted != "auto":
        return wanted
    return "bf16" if has_native_bf16() else "fp32"


def wants_dense_bf16(option: str) -> bool:
    """Whether dense bf16 is measured where that takes long; option: auto (if it is native), always or never."""
    return option == "always" or (option == "auto" and has_native_bf16())


def describe() -> dict[str, object]:
    """The CPU, what torch makes of it, and the number of threads."""
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "avx512_bf16": torch.cpu._is_avx512_bf16_supported(),
        "vnni": torch.cpu._is_vnni_supported(),
        "amx": torch.cpu._is_amx_tile_supported(),
        "native_bf16": has_native_bf16(),
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()

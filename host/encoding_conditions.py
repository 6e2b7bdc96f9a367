"""Everything besides the encoder's file and the text that can change a byte of an embedding.

Too much in here costs one encoding after an update; too little would serve bytes that this machine would not compute.
"""

import hashlib
import json
import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

import comfy.ldm.modules.attention
import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.sd
import comfy.sd1_clip
import comfy.text_encoders.spiece_tokenizer
import comfy.text_encoders.t5
import comfy.text_encoders.wan
import torch

from ..ops.backends.cpu import machine
from ..ops.explain import typical_linear
from ..ops.formats import FORMATS

PACK = Path(__file__).resolve().parent.parent
PACK_FLOORS = ("host", "loaders", "ops")  # the text is cleaned before, and is part of the address
HOST_MODULES = (
    comfy.ldm.modules.attention,
    comfy.model_patcher,
    comfy.ops,
    comfy.sd,
    comfy.sd1_clip,
    comfy.text_encoders.spiece_tokenizer,
    comfy.text_encoders.t5,
    comfy.text_encoders.wan,
)
PACKAGES = ("comfy-kitchen", "llvmlite", "numpy", "sentencepiece", "triton")


def encoding_conditions(device: torch.device) -> dict[str, Any]:
    """What an encoding on `device` would depend on now, ready for JSON."""
    attention = comfy.ldm.modules.attention.optimized_attention_for_device(device, mask=True, small_input=True)
    return {
        "code": _code(),
        "packages": _packages(),
        "device": _device(device),
        "threads": torch.get_num_threads(),
        "precision": [torch.get_float32_matmul_precision(), torch.are_deterministic_algorithms_enabled()],
        "attention": f"{attention.__module__}.{attention.__qualname__}",
        "patcher": comfy.model_patcher.CoreModelPatcher.__name__,  # dynamic VRAM loads small layers dense
        "kernels": {name: _kernel(name, device) for name in sorted(FORMATS)},
    }


def _kernel(format_name: str, device: torch.device) -> str | None:
    kernel = typical_linear(format_name, device, torch.float32, "exact").kernel
    return kernel.name if kernel else None


def _device(device: torch.device) -> list[str]:
    """What multiplies: the type and name of the device, and on a CPU its instructions."""
    facts = [device.type, platform.system(), platform.machine()]
    if device.type == "cuda":  # ROCm builds call their devices so too
        properties = torch.cuda.get_device_properties(device)
        capability = f"{properties.major}.{properties.minor}"
        return [*facts, properties.name, capability, str(torch.version.cuda), str(torch.version.hip)]
    facts += [torch.backends.cpu.get_cpu_capability()]
    if machine.problem() is None:
        facts += [machine.machine().cpu, *sorted(machine.machine().features)]
    return facts


@cache
def _packages() -> dict[str, str | None]:
    return {"torch": torch.__version__, **{name: _version(name) for name in PACKAGES}}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@cache
def _code() -> str:
    """sha256 of the pack's own source and of the host's modules that take part, as this process has imported them."""
    own = [path for floor in PACK_FLOORS for path in sorted((PACK / floor).rglob("*.py"))]
    digest = hashlib.sha256()
    for path in [*own, *map(_source, HOST_MODULES)]:
        data = path.read_bytes()
        digest.update(json.dumps([path.name, len(data)]).encode() + data)
    return digest.hexdigest()


def _source(module: ModuleType) -> Path:
    return Path(module.__file__)

"""Loads a Wan diffusion model from a GGUF file as the host's MODEL, in the host's own WanModel."""

import logging
from pathlib import Path
from typing import Any

import comfy.model_detection
import comfy.model_management
import torch
from comfy.model_patcher import ModelPatcher
from comfy.supported_models_base import BASE

from ..loaders.identify import WrongModelError
from ..loaders.wan import WanCheckpoint, load_wan
from ..ops.explain import typical_linear
from ..ops.native import has_native_bf16
from .assign import assign_tensors
from .operations import packed_operations
from .patcher import make_patcher
from .steady import make_steady

DTYPES = {"auto": None, "bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
ATTACHMENT = "wan_gguf"  # key of the settings that travel with the MODEL

IMAGE_MODEL = "wan2.1"  # the host's name of the architecture, Wan2.2 included


def load_diffusion_model(
    path: str | Path, dtype: str = "auto", mode: str = "exact", disable_dynamic: bool = False
) -> ModelPatcher:
    """The model in `path` as a MODEL. Matmul weights stay packed in the mapped file; nothing else is large.

    dtype is what the model computes in; "auto" takes the host's choice for the device. mode "int8" multiplies in
    integers (`ops.int8`). `disable_dynamic` is the host's own switch for a second copy without dynamic VRAM.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype: got {dtype!r}; {', '.join(DTYPES)} are allowed")
    checkpoint = load_wan(path)
    config = _host_config(checkpoint)
    load_device = comfy.model_management.get_torch_device()
    reason = _set_dtype(config, checkpoint, dtype, load_device)
    config.custom_operations = packed_operations(mode)
    model = config.get_model({}, "")
    source = Path(checkpoint.path).name
    assign_tensors(model.diffusion_model, checkpoint.tensors, source)
    make_steady(model.diffusion_model)
    patcher = make_patcher(model, load_device, comfy.model_management.unet_offload_device(), disable_dynamic)
    patcher.cached_patcher_init = (load_diffusion_model, (path, dtype, mode))
    computes_in = model.get_dtype_inference()
    name = str(computes_in).removeprefix("torch.")
    kernels = _kernels(checkpoint, load_device, computes_in, mode)
    settings = {"model": source, "dtype": name, "mode": mode, "kernels": sorted(kernels), "device": str(load_device)}
    patcher.set_attachments(ATTACHMENT, settings)
    logging.info("%s: computes in %s (%s), mode %s", source, name, reason, mode)
    for explanation in kernels.values():
        logging.info("%s: linear layers by %s", source, explanation)
    return patcher


def _kernels(checkpoint: WanCheckpoint, device: torch.device, dtype: torch.dtype, mode: str) -> dict[str, str]:
    """Kernel name -> in words, with what refused before it, for the types of the file's matrices."""
    matrices = [packed for packed in checkpoint.tensors.values() if len(packed.shape) == 2]
    found = {}
    for name in sorted({packed.format.name for packed in matrices}):
        choice = typical_linear(name, device, dtype, mode)
        if choice.kernel is not None:
            found[choice.kernel.name] = f"{choice.explain()} for {name}"
    return found


def _host_config(checkpoint: WanCheckpoint) -> BASE:
    """The host's config object for a model of these shapes: the first match of its table, as for its own files."""
    config: dict[str, Any] = {"image_model": IMAGE_MODEL, **checkpoint.config}
    found = comfy.model_detection.model_config_from_unet_config(config)
    if found is None:
        shown = ", ".join(f"{key} {config.get(key)}" for key in ("model_type", "in_dim", "out_dim", "dim"))
        raise WrongModelError(
            f"{Path(checkpoint.path).name}: this ComfyUI has no Wan model with {shown}; "
            "update ComfyUI or choose a T2V, I2V or TI2V file"
        )
    return found


def _set_dtype(config: BASE, checkpoint: WanCheckpoint, dtype: str, device: torch.device) -> str:
    """Set what the model computes in; returns the reason in words."""
    management = comfy.model_management
    chosen = DTYPES[dtype]
    if chosen is not None:
        config.set_inference_dtype(chosen, None, device=device)
        return "chosen in the loader"
    if device.type == "cpu" and has_native_bf16():
        config.set_inference_dtype(torch.bfloat16, None, device=device)
        return "twice as fast as fp32 on this CPU"
    supported = list(config.supported_inference_dtypes)
    params = sum(packed.numel for packed in checkpoint.tensors.values())
    weight_dtype = management.unet_dtype(model_params=params, supported_dtypes=supported)
    cast_dtype = management.unet_manual_cast(weight_dtype, device, supported)
    config.set_inference_dtype(weight_dtype, cast_dtype, device=device)
    return f"ComfyUI's choice for {device}"

"""One mode of `gpu_memory.py`: starts the host's memory management as its main.py does, and measures.

Called with one JSON object: {"mode", "arguments" of the host, "file" of the model, "base" folder for the host, "tiny"};
prints one. The host has to come before torch, so everything is imported after it.
"""

import importlib
import json
import os
import sys
from pathlib import Path

REQUEST = json.loads(sys.argv[1])
sys.path[0] = str(Path(__file__).resolve().parent.parent / "reference_model")  # instead of this folder
import environment

environment.register_pack()
sys.path[0] = os.environ["COMFYUI_DIR"]
base = ["--base-directory", REQUEST["base"], "--database-url", "sqlite:///:memory:", "--disable-all-custom-nodes"]
sys.argv = ["main.py", *base, *REQUEST["arguments"]]
importlib.import_module("main")  # the host's: reads the arguments, switches dynamic VRAM on or off

import ctypes
import gc
import hashlib
import time

import comfy.memory_management
import comfy.model_management as management
import comfy.sample
import comfy.sd
import torch
from comfy.quant_ops import QuantizedTensor

from wan_gguf.benchmarks.shapes import TEXT_TOKENS, Shape
from wan_gguf.host.models import load_diffusion_model

STEPS, FRAMES, RANK = 2, 5, 16
LORA_LAYERS = ("self_attn.q", "self_attn.o", "ffn.0", "ffn.2")
STATUS = Path("/proc/self/status")
DEVICE = management.get_torch_device()
ON_GPU = DEVICE.type != "cpu"


def anonymous_bytes() -> int:
    """What this process holds that is no file; 0 where the system does not tell."""
    gc.collect()
    if not STATUS.exists():
        return 0
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim is not None:
        trim(0)
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("RssAnon:"))
    return int(line.split()[1]) * 1024


def device_bytes() -> int:
    """What this process's tensors take on the device, and what dynamic VRAM takes there."""
    if not ON_GPU:
        return 0
    gc.collect()
    management.soft_empty_cache(True)
    torch.cuda.synchronize()
    loaded = sum(entry.model_loaded_memory() for entry in management.current_loaded_models if entry.model.is_dynamic())
    return torch.cuda.memory_allocated(DEVICE) + loaded


def packed_layers(model) -> dict:
    """Name -> layer with a packed weight."""
    return {name: m for name, m in model.model.named_modules() if getattr(m, "packed", None) is not None}


def resident_share(model) -> float:
    """The share of the packed bytes that lies on the device between two steps."""
    layers = packed_layers(model).values()
    if model.is_dynamic():
        return min(1.0, model.loaded_size() / model.model_size())
    there = sum(layer.packed.nbytes for layer in layers if layer.weight.device.type != "cpu")
    return there / sum(layer.packed.nbytes for layer in layers)


def not_mapped(model) -> list[str]:
    """Packed weights on the CPU that are not the bytes the loader mapped."""
    on_cpu = {name: layer for name, layer in packed_layers(model).items() if layer.weight.device.type == "cpu"}
    return [
        name
        for name, layer in on_cpu.items()
        if not isinstance(layer.weight, QuantizedTensor)
        or layer.weight._qdata.data_ptr() != layer.packed.data.data_ptr()
    ]


def with_lora(model):
    """A clone with a LoRA on four layers of every block, through the host's own loader."""
    generator, lora = torch.Generator().manual_seed(5), {}
    for name, layer in packed_layers(model).items():
        if name.endswith(LORA_LAYERS):
            n, k = layer.packed.shape
            lora[f"{name}.lora_up.weight"] = torch.randn(n, RANK, generator=generator) * 0.02
            lora[f"{name}.lora_down.weight"] = torch.randn(RANK, k, generator=generator) * 0.02
    return comfy.sd.load_lora_for_models(model, None, lora, 1.0, 0)[0]


def sample(model, shape: Shape) -> torch.Tensor:
    """Two Euler steps without guidance, which the host would batch or split by free memory."""
    height, width = (2 * side for side in shape.grid)
    latent = torch.zeros(1, shape.config["in_dim"], FRAMES, height, width)
    generator = torch.Generator().manual_seed(1)
    context = torch.randn(1, TEXT_TOKENS, shape.config["text_dim"], generator=generator)
    prompt = [[context, {"pooled_output": None}]]
    noise = comfy.sample.prepare_noise(latent, 7)
    sampled = comfy.sample.sample(
        model, noise, STEPS, 1.0, "euler", "simple", prompt, prompt, latent, seed=7, disable_pbar=True
    )
    management.reset_cast_buffers()  # as the host does after every prompt
    return sampled.cpu()


def take_room(model) -> None:
    """Tell the host that so much of the device is taken that a half of the model fits; as --reserve-vram does."""
    spare = management.get_free_memory(DEVICE) - 0.8 * (1 << 30) - model.model_size() / 2
    management.EXTRA_RESERVED_VRAM = max(0, int(spare))


def one_round(model, patched, shape: Shape) -> dict:
    """Sample with and without the LoRA, unload; what was seen."""
    seen, latents, wrong = {}, {}, set()
    if ON_GPU:
        torch.cuda.reset_peak_memory_stats(DEVICE)
    began = time.perf_counter()
    latents["plain"] = sample(model, shape)
    seen["seconds"] = time.perf_counter() - began
    seen["resident_share"] = resident_share(model)
    wrong.update(not_mapped(model))
    latents["lora"] = sample(patched, shape)
    wrong.update(not_mapped(model))
    seen["peak_bytes"] = torch.cuda.max_memory_allocated(DEVICE) if ON_GPU else None
    management.unload_all_models()
    wrong.update(not_mapped(model))
    bits = {name: hashlib.sha256(latent.numpy().tobytes()).hexdigest() for name, latent in latents.items()}
    finite = all(bool(torch.isfinite(latent).all()) for latent in latents.values())
    return {**seen, "latents": bits, "not_mapped": sorted(wrong), "finite": finite}


def measure() -> dict:
    """Two rounds with one model."""
    shape = Shape.of(REQUEST["tiny"], 1)
    model = load_diffusion_model(REQUEST["file"], "bf16" if ON_GPU else "fp32")
    patched = with_lora(model)
    if REQUEST["mode"] == "part" and ON_GPU:
        take_room(model)
    began = device_bytes()
    first = one_round(model, patched, shape)
    between = device_bytes(), anonymous_bytes()
    second = one_round(model, patched, shape)
    after = device_bytes(), anonymous_bytes()
    if not (first["finite"] and second["finite"]):
        raise RuntimeError("the model gave NaN or infinite values")
    return {
        **second,
        "device": DEVICE.type,
        "dynamic": comfy.memory_management.aimdo_enabled and model.is_dynamic(),
        "kernels": model.attachments["wan_gguf"]["kernels"],
        "repeats": first["latents"] == second["latents"],
        "not_mapped": sorted({*first["not_mapped"], *second["not_mapped"]}),
        "left_bytes": after[0] - began if ON_GPU else None,
        "device_growth_bytes": after[0] - between[0],
        "anon_bytes": after[1],
        "anon_growth_bytes": after[1] - between[1],
    }


if __name__ == "__main__":
    with torch.inference_mode():
        print(json.dumps(measure()))

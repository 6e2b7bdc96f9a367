"""Published model files by name: the real headers, and data that is a hole; and workflows that use them."""

import json
import math
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

from wan_gguf.tests.loaders.build import gguf_bytes, sparse_gguf
from wan_gguf.tests.loaders.models import (
    TOKENIZER,
    VAE_21,
    VAE_22,
    WAN_MODELS,
    shapes_of,
    umt5_tensors,
    wan_tensors,
)

HIGH, LOW = "Wan2.2-T2V-A14B-HighNoise-Q4_K_M.gguf", "Wan2.2-T2V-A14B-LowNoise-Q4_K_M.gguf"
I2V_HIGH, I2V_LOW = "Wan2.2-I2V-A14B-HighNoise-Q4_K_M.gguf", "Wan2.2-I2V-A14B-LowNoise-Q4_K_M.gguf"
TI2V, TINY = "Wan2.2-TI2V-5B-Q4_K_M.gguf", "wan2.1-t2v-1.3b-Q4_K_M.gguf"
WAN_21, WAN_21_I2V = "wan2.1-t2v-14b-Q4_K_M.gguf", "wan2.1-i2v-14b-480p-Q4_K_M.gguf"
RENAMED, RENAMED_TOO = "expert_a.gguf", "expert_b.gguf"
UMT5, FP8_UMT5 = "umt5-xxl-encoder-Q4_K_M.gguf", "umt5_xxl_fp8_e4m3fn_scaled.safetensors"
VAE_OF = {16: "wan_2.1_vae.safetensors", 48: "wan2.2_vae.safetensors"}

_MODELS = {
    HIGH: "Wan2.2-T2V-A14B", LOW: "Wan2.2-T2V-A14B", I2V_HIGH: "Wan2.2-I2V-A14B", I2V_LOW: "Wan2.2-I2V-A14B",
    TI2V: "Wan2.2-TI2V-5B", TINY: "Wan2.1-T2V-1.3B", WAN_21: "Wan2.1-T2V-14B", WAN_21_I2V: "Wan2.1-I2V-14B",
    RENAMED: "Wan2.2-T2V-A14B", RENAMED_TOO: "Wan2.2-T2V-A14B",
}  # fmt: skip

Shapes = Mapping[str, tuple[int, ...]]


def sparse_safetensors(path: Path, shapes: Shapes, dtype: str = "F16", item_bytes: int = 2) -> Path:
    """A file of full size whose data is a hole."""
    table, at = {}, 0
    for name, shape in shapes.items():
        end = at + item_bytes * math.prod(shape)
        table[name], at = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, end]}, end
    head = json.dumps(table).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head)
    with path.open("r+b") as file:
        file.truncate(8 + len(head) + at)
    return path


def lora_shapes(width: int, rank: int = 4, prefix: str = "diffusion_model.") -> Shapes:
    """Two blocks of what lightx2v writes; the first module has not the model's width, so names must be looked at."""
    ffn = {5120: 13824, 3072: 14336, 1536: 8960}[width]
    layers = {"ffn.0": (ffn, width), "ffn.2": (width, ffn), "self_attn.q": (width, width), "cross_attn.o": (width,) * 2}
    shapes: dict[str, tuple[int, ...]] = {}
    for block in range(2):
        for name, (n, k) in layers.items():
            module = f"{prefix}blocks.{block}.{name}"
            shapes |= {f"{module}.lora_up.weight": (n, rank), f"{module}.lora_down.weight": (rank, k)}
    return shapes


def t5_xxl_tensors() -> dict[str, tuple[str, tuple[int, ...]]]:
    """T5-XXL as Flux and Stable Diffusion 3 use it: a relative bias in the first block only, 32128 tokens."""
    tensors = umt5_tensors(4096, 10240, 64, 64, 24, 32128)
    return {name: t for name, t in tensors.items() if "attn_rel_b" not in name or ".blk.0." in name}


def write_published(folder: Path) -> Path:
    """All files above, LoRAs by width, text encoders of other kinds, and files of other models under their names."""
    for name, model in _MODELS.items():
        dim, ffn, channels, out, layers, image, _ = WAN_MODELS[model]
        sparse_gguf(folder / name, wan_tensors(dim, ffn, channels, out, layers, image, text_dim=4096))
    sparse_gguf(folder / UMT5, umt5_tensors(4096, 10240, 64, 64, 24, 256384), TOKENIZER)
    sparse_gguf(folder / "umt5-base.gguf", umt5_tensors(768, 2048, 12, 64, 12, 256384), TOKENIZER)
    sparse_gguf(folder / "t5-v1_1-xxl-encoder-Q4_K_M.gguf", t5_xxl_tensors())
    t5_names = shapes_of(umt5_tensors(4096, 10240, 64, 64, 24, 256384, llama_names=False))
    sparse_safetensors(folder / FP8_UMT5, t5_names, "F8_E4M3", 1)
    for channels, shapes in ((16, VAE_21), (48, VAE_22)):
        sparse_safetensors(folder / VAE_OF[channels], shapes)
    for width in (5120, 3072, 1536):
        sparse_safetensors(folder / f"lora_{width}.safetensors", lora_shapes(width))
    sparse_safetensors(folder / "lora_kohya_3072.safetensors", _kohya(lora_shapes(3072)))
    image_lora = {**lora_shapes(5120), "diffusion_model.patch_embedding.diff": (5120, 36, 1, 2, 2)}
    sparse_safetensors(folder / "lora_i2v_5120.safetensors", image_lora)
    sparse_safetensors(folder / "lora_flux.safetensors", lora_shapes(3072, prefix="transformer.single_transformer_"))
    _write_others(folder)
    return folder


def _kohya(shapes: Shapes) -> Shapes:
    """lora_unet_blocks_0_ffn_0.lora_up.weight."""
    renamed = {}
    for name, shape in shapes.items():
        module, _, part = name.removeprefix("diffusion_model.").partition(".lora")
        renamed[f"lora_unet_{module.replace('.', '_')}.lora{part}"] = shape
    return renamed


# file -> a tensor that only this family has
OTHER_MODELS = {
    "flux1-dev.gguf": "double_blocks.0.img_attn.qkv.weight",
    "hunyuan-video.gguf": "txt_in.individual_token_refiner.blocks.0.norm1.weight",
    "ltxv.gguf": "patchify_proj.weight",
    "qwen-image.gguf": "txt_norm.weight",
    "sd3.5.gguf": "joint_blocks.0.context_block.attn.qkv.weight",
    "clip_l.safetensors": "text_model.encoder.layers.0.self_attn.q_proj.weight",
    "qwen2.5-7b-instruct.gguf": "blk.0.attn_q.weight",
    "ae.safetensors": "decoder.mid.block_1.conv1.weight",
}


def _write_others(folder: Path) -> None:
    for name, tensor in OTHER_MODELS.items():
        if name.endswith(".gguf"):
            (folder / name).write_bytes(gguf_bytes({tensor: ("F16", (4, 4))}))
        else:
            sparse_safetensors(folder / name, {tensor: (4, 4)})
    sparse_safetensors(folder / "lora.gguf", lora_shapes(5120))  # the header counts, not the name
    sparse_safetensors(folder / "vae.gguf", VAE_21)
    sparse_safetensors(folder / "renamed.gguf", shapes_of(wan_tensors(1536, 8960, layers=1)))


def workflow(
    model: str,
    low: str | None = None,
    vae: str | None = None,
    encoder: str = UMT5,
    loras: Iterable[str] = (),
    low_loras: Iterable[str] = (),
    lora_kind: str = "WanGGUFLoraLoader",
) -> dict:
    """A text-to-video workflow in the host's API form; the nodes' ids are what they are."""
    graph = {
        "model": {"class_type": "WanGGUFModelLoader", "inputs": {"model_name": model}},
        "encoder": {"class_type": "WanGGUFTextEncoderLoader", "inputs": {"encoder_name": encoder}},
        "vae": {"class_type": "VAELoader", "inputs": {"vae_name": vae or VAE_OF[48 if model == TI2V else 16]}},
        "prompt": {"class_type": "WanGGUFPrompt", "inputs": {"clip": ["encoder", 0], "positive": "a", "negative": ""}},
        "latent": {"class_type": "WanGGUFEmptyLatent", "inputs": {"vae": ["vae", 0]}},
        "sampler": {"class_type": "WanGGUFSampler", "inputs": {"latent": ["latent", 0]}},
        "decode": {"class_type": "VAEDecode", "inputs": {"samples": ["sampler", 0], "vae": ["vae", 0]}},
    }
    inputs = graph["sampler"]["inputs"]
    inputs |= {"positive": ["prompt", 0], "negative": ["prompt", 1], "model": _chain(graph, "model", loras, lora_kind)}
    if low is not None:
        graph["low"] = {"class_type": "WanGGUFModelLoader", "inputs": {"model_name": low}}
        inputs["low_noise_model"] = _chain(graph, "low", low_loras, lora_kind)
    return graph


def _chain(graph: dict, first: str, loras: Iterable[str], kind: str) -> list:
    last = first
    for index, lora in enumerate(loras):
        name = f"{first} lora {index}"
        graph[name] = {"class_type": kind, "inputs": {"model": [last, 0], "lora_name": lora, "strength_model": 1.0}}
        last = name
    return [last, 0]

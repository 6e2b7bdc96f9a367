"""The Wan transformer's settings from the shapes of its tensors, and the shapes those settings imply.

Names and shapes: the official repository's wan/modules/model.py (`WanModel`). Stored ranks are not trusted: some tools
drop dimensions of one or fold the five-dimensional patch embedding, so settings are read from what survives this.
"""

import math
from typing import Any

from .identify import Shapes, WrongModelError

PATCH_SIZE = (1, 2, 2)
HEAD_DIM = 128

# How names begin that only this variant has -> the variant's name. Not one tensor each: a file that was not fixed after
# its conversion lacks the five-dimensional ones. Source: the host's model_detection.py and ldm/wan.
_VARIANTS = {
    "vace_patch_embedding.": "VACE",
    "vace_blocks.": "VACE",
    "control_adapter.": "camera control",
    "casual_audio_encoder.": "S2V",
    "audio_proj.audio_proj_glob_1.": "HuMo",
    "face_adapter.": "Animate",
    "patch_embedding_pose.": "SCAIL",
    "patch_embedding_mask.": "SCAIL",
    "patch_embedding_global.": "WanDancer",
    "blocks.0.audio_cross_attn.": "MultiTalk",
    "ref_conv.": "reference control",
}


def wan_config(shapes: Shapes, file_name: str) -> dict[str, Any]:
    """Arguments of the host's WanModel. Raises WrongModelError when the tensors are not those of a plain Wan model."""
    _refuse_variants(shapes, file_name)
    if "patch_embedding.weight" not in shapes:
        raise WrongModelError(
            f"{file_name}: patch_embedding.weight is missing: the file was quantised without the step that puts the "
            "five-dimensional tensor back (fix_5d_tensors.py); download a fixed version of this file"
        )
    try:
        config = _from_shapes(shapes)
    except (KeyError, IndexError) as error:
        raise WrongModelError(
            f"{file_name}: tensor {error.args[0]} is missing or has no shape; download it again"
        ) from None
    if config["dim"] % HEAD_DIM:
        raise WrongModelError(
            f"{file_name}: dim is {config['dim']}; a multiple of {HEAD_DIM} is allowed in a Wan model"
        )
    return config


def _refuse_variants(shapes: Shapes, file_name: str) -> None:
    for mark, variant in _VARIANTS.items():
        if any(name.startswith(mark) for name in shapes):
            raise WrongModelError(
                f"{file_name}: is a Wan {variant} model, which is not supported; use a T2V, I2V or TI2V model"
            )


def _from_shapes(shapes: Shapes) -> dict[str, Any]:
    dim = shapes["head.modulation"][-1]
    has_image_branch = "img_emb.proj.1.weight" in shapes
    config = {
        "model_type": "i2v" if has_image_branch else "t2v",
        "patch_size": PATCH_SIZE,
        "text_len": 512,
        "in_dim": math.prod(shapes["patch_embedding.weight"]) // (dim * math.prod(PATCH_SIZE)),
        "dim": dim,
        "ffn_dim": shapes["blocks.0.ffn.0.weight"][0],
        "freq_dim": shapes["time_embedding.0.weight"][-1],
        "text_dim": shapes["text_embedding.0.weight"][-1],
        "out_dim": shapes["head.head.weight"][0] // math.prod(PATCH_SIZE),
        "num_heads": dim // HEAD_DIM,
        "num_layers": 1 + max(int(name.split(".")[1]) for name in shapes if _is_block(name)),
        "window_size": (-1, -1),
        "qk_norm": "blocks.0.self_attn.norm_q.weight" in shapes,
        "cross_attn_norm": "blocks.0.norm3.weight" in shapes,
        "eps": 1e-6,
    }
    if "img_emb.emb_pos" in shapes:
        config["flf_pos_embed_token_number"] = shapes["img_emb.emb_pos"][-2]
    return config


def _is_block(name: str) -> bool:
    parts = name.split(".")
    return parts[0] == "blocks" and len(parts) > 2 and parts[1].isdecimal() and len(parts[1]) < 6


def _with_bias(name: str, n: int, k: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (n, k), f"{name}.bias": (n,)}


def wan_shapes(config: dict[str, Any], image_dim: int = 1280) -> dict[str, tuple[int, ...]]:
    """Every tensor name of that model with its logical shape; `image_dim` is the width of the image branch's input."""
    dim, patch_elems = config["dim"], math.prod(PATCH_SIZE)
    shapes: dict[str, tuple[int, ...]] = {
        "patch_embedding.weight": (dim, config["in_dim"], *PATCH_SIZE),
        "patch_embedding.bias": (dim,),
        **_with_bias("text_embedding.0", dim, config["text_dim"]),
        **_with_bias("text_embedding.2", dim, dim),
        **_with_bias("time_embedding.0", dim, config["freq_dim"]),
        **_with_bias("time_embedding.2", dim, dim),
        **_with_bias("time_projection.1", 6 * dim, dim),
        "head.modulation": (1, 2, dim),
        **_with_bias("head.head", config["out_dim"] * patch_elems, dim),
    }
    if config["model_type"] == "i2v":
        shapes |= _image_branch_shapes(config, image_dim)
    block = _block_shapes(config)
    for i in range(config["num_layers"]):
        shapes |= {f"blocks.{i}.{name}": shape for name, shape in block.items()}
    return shapes


def _image_branch_shapes(config: dict[str, Any], image_dim: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "img_emb.proj.0.weight": (image_dim,),
        "img_emb.proj.0.bias": (image_dim,),
        **_with_bias("img_emb.proj.1", image_dim, image_dim),
        **_with_bias("img_emb.proj.3", config["dim"], image_dim),
        "img_emb.proj.4.weight": (config["dim"],),
        "img_emb.proj.4.bias": (config["dim"],),
    }
    if "flf_pos_embed_token_number" in config:
        shapes["img_emb.emb_pos"] = (1, config["flf_pos_embed_token_number"], image_dim)
    return shapes


def _block_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    dim, ffn_dim = config["dim"], config["ffn_dim"]
    shapes: dict[str, tuple[int, ...]] = {"modulation": (1, 6, dim)}
    for attention in ("self_attn", "cross_attn"):
        for leaf in "qkvo":
            shapes |= _with_bias(f"{attention}.{leaf}", dim, dim)
        if config["qk_norm"]:
            shapes |= {f"{attention}.norm_q.weight": (dim,), f"{attention}.norm_k.weight": (dim,)}
    if config["model_type"] == "i2v":
        shapes |= _with_bias("cross_attn.k_img", dim, dim) | _with_bias("cross_attn.v_img", dim, dim)
        if config["qk_norm"]:
            shapes["cross_attn.norm_k_img.weight"] = (dim,)
    if config["cross_attn_norm"]:
        shapes |= {"norm3.weight": (dim,), "norm3.bias": (dim,)}
    return shapes | _with_bias("ffn.0", ffn_dim, dim) | _with_bias("ffn.2", dim, ffn_dim)

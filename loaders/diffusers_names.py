"""Tensor names of Wan transformers in diffusers, as official names.

Source: scripts/convert_wan_to_diffusers.py of diffusers. Shapes are the same; norm2 and norm3 changed places.
"""

import re
from collections.abc import Container

# the official code's names -> diffusers', within a block
BLOCK = {"ffn.0": "ffn.net.0.proj", "ffn.2": "ffn.net.2", "norm3": "norm2", "modulation": "scale_shift_table"} | {
    f"{ours}_attn.{leaf}": f"{theirs}.{name}"
    for ours, theirs in (("self", "attn1"), ("cross", "attn2"))
    for leaf, name in (
        ("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("o", "to_out.0"), ("norm_q", "norm_q"), ("norm_k", "norm_k"),
        ("k_img", "add_k_proj"), ("v_img", "add_v_proj"), ("norm_k_img", "norm_added_k"),
    )
}  # fmt: skip
TOP = {
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    "img_emb.proj.0": "condition_embedder.image_embedder.norm1",
    "img_emb.proj.1": "condition_embedder.image_embedder.ff.net.0.proj",
    "img_emb.proj.3": "condition_embedder.image_embedder.ff.net.2",
    "img_emb.proj.4": "condition_embedder.image_embedder.norm2",
    "img_emb.emb_pos": "condition_embedder.image_embedder.pos_embed",
    "head.head": "proj_out",
    "head.modulation": "scale_shift_table",
}
_MARK = "condition_embedder.time_embedder.linear_1.weight"
_OFFICIAL_BLOCK = {theirs: ours for ours, theirs in BLOCK.items()}
_OFFICIAL_TOP = {theirs: ours for ours, theirs in TOP.items()}
_IN_BLOCK = re.compile(r"(blocks\.\d{1,5}\.)(.+)")


def is_diffusers(names: Container[str]) -> bool:
    """Whether these are the tensor names of a Wan transformer in diffusers."""
    return _MARK in names


def diffusers_module(module: str) -> str:
    """diffusers' name of an official module; names that are the same in both come back as they are."""
    match = _IN_BLOCK.fullmatch(module)
    return match[1] + BLOCK.get(match[2], match[2]) if match else TOP.get(module, module)


def official_name(name: str) -> str:
    """The official name of a tensor in diffusers; the same name for one that diffusers did not rename."""
    match = _IN_BLOCK.fullmatch(name)
    prefix, rest = (match[1], match[2]) if match else ("", name)
    table = _OFFICIAL_BLOCK if match else _OFFICIAL_TOP
    module, dot, part = rest.rpartition(".")
    if rest in table:  # a bare parameter
        return prefix + table[rest]
    return f"{prefix}{table.get(module, module)}{dot}{part}"

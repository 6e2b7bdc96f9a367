"""Tensor names of the UMT5 encoder in the official Wan repository (wan/modules/t5.py), as T5's own.

The repository's file is a pickle; safetensors versions of it with these names exist. Its gate is T5's wi_0.
"""

import re
from collections.abc import Container

_MARK = "blocks.0.pos_embedding.embedding.weight"
_TOP = {"token_embedding.weight": "shared.weight", "norm.weight": "encoder.final_layer_norm.weight"}
_LEAVES = {
    "norm1": "layer.0.layer_norm",
    **{f"attn.{leaf}": f"layer.0.SelfAttention.{leaf}" for leaf in "qkvo"},
    "pos_embedding.embedding": "layer.0.SelfAttention.relative_attention_bias",
    "norm2": "layer.1.layer_norm",
    "ffn.gate.0": "layer.1.DenseReluDense.wi_0",
    "ffn.fc1": "layer.1.DenseReluDense.wi_1",
    "ffn.fc2": "layer.1.DenseReluDense.wo",
}
_BLOCK = re.compile(r"blocks\.(\d{1,5})\.(.+)\.weight")


def is_official_umt5(names: Container[str]) -> bool:
    """Whether these are the names of the official repository's encoder."""
    return _MARK in names


def t5_name_of_official(name: str) -> str:
    """T5's name; one that the encoder does not have comes back as it is."""
    match = _BLOCK.fullmatch(name)
    if match and match[2] in _LEAVES:
        return f"encoder.block.{match[1]}.{_LEAVES[match[2]]}.weight"
    return _TOP.get(name, name)

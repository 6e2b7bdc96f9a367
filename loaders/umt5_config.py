"""The UMT5 encoder's names in either naming, its settings from shapes, and the shapes those settings imply."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .fit import check_tensors
from .gguf import GGUFHeader
from .identify import Shapes, WrongModelError, describe_other, identify
from .safetensors_header import SafetensorsEntry, check_dtype

if TYPE_CHECKING:
    from .gguf import GGUFFile

SPIECE_KEY = "spiece_model"  # the host's name for the serialized tokenizer, a U8 tensor

_LLAMA_TOP = {"token_embd.weight": "shared.weight", "enc.output_norm.weight": "encoder.final_layer_norm.weight"}
_LLAMA_LEAVES = {
    "attn_q": "layer.0.SelfAttention.q",
    "attn_k": "layer.0.SelfAttention.k",
    "attn_v": "layer.0.SelfAttention.v",
    "attn_o": "layer.0.SelfAttention.o",
    "attn_rel_b": "layer.0.SelfAttention.relative_attention_bias",
    "attn_norm": "layer.0.layer_norm",
    "ffn_gate": "layer.1.DenseReluDense.wi_0",
    "ffn_up": "layer.1.DenseReluDense.wi_1",
    "ffn_down": "layer.1.DenseReluDense.wo",
    "ffn_norm": "layer.1.layer_norm",
}
_LLAMA_OF_LEAF = {t5: llama for llama, t5 in _LLAMA_LEAVES.items()}
_LLAMA_BLOCK = re.compile(r"enc\.blk\.(\d{1,5})\.(\w+)\.weight")
_EMBEDDING_ALIASES = ("encoder.embed_tokens.weight",)
_IGNORED = re.compile(r"dec\.|decoder\.|lm_head\.|output\.weight$|spiece_model$|logit_scale$")
_ATTENTION = "encoder.block.0.layer.0.SelfAttention"


def has_tokenizer(file: "GGUFHeader | GGUFFile") -> bool:
    """True when the file has either form of the tokenizer, good or bad."""
    return "tokenizer.ggml.tokens" in file.metadata or SPIECE_KEY in file.tensors


def check_dtypes(path: Path, entries: Mapping[str, SafetensorsEntry]) -> None:
    """Raise SafetensorsError for 8-bit floats; before the names are looked at, because such files add scale tensors."""
    for name, entry in entries.items():
        if name != SPIECE_KEY:
            check_dtype(path, name, entry)


def t5_name(name: str) -> str | None:
    """T5's own name of an encoder tensor in either naming, or None for tensors the encoder does not use."""
    match = _LLAMA_BLOCK.fullmatch(name)
    if match and match[2] in _LLAMA_LEAVES:
        return f"encoder.block.{match[1]}.{_LLAMA_LEAVES[match[2]]}.weight"
    return None if _IGNORED.match(name) else _LLAMA_TOP.get(name, name)


def umt5_layout(shapes: Shapes, file_name: str) -> tuple[dict[str, Any], Shapes, dict[str, str]]:
    """The model's config, its tensors' logical shapes, and their names in the file. Raises WrongModelError."""
    if identify(shapes) != "umt5":
        raise WrongModelError(f"{file_name}: is {describe_other(shapes)}")
    stored_names = {t5: name for name in shapes if (t5 := t5_name(name)) is not None}
    for alias in _EMBEDDING_ALIASES:
        if alias in stored_names:
            stored_names.setdefault("shared.weight", stored_names.pop(alias))
    stored = {t5: shapes[name] for t5, name in stored_names.items()}
    config = umt5_config(stored, file_name)
    expected = umt5_shapes(config)
    check_tensors(stored, expected, "UMT5 encoder", file_name)
    return config, expected, stored_names


def umt5_config(shapes: Shapes, file_name: str) -> dict[str, Any]:
    """Settings in the spelling of Hugging Face's UMT5 config, from shapes. Raises WrongModelError."""
    try:
        vocab_size, d_model = shapes["shared.weight"]
        num_buckets, num_heads = shapes[f"{_ATTENTION}.relative_attention_bias.weight"]
        d_ff = shapes["encoder.block.0.layer.1.DenseReluDense.wi_0.weight"][0]
        inner_dim = shapes[f"{_ATTENTION}.q.weight"][0]
    except (KeyError, ValueError) as error:
        raise WrongModelError(
            f"{file_name}: a UMT5 tensor is missing or misshapen ({error}); download it again"
        ) from None
    if inner_dim % num_heads:
        raise WrongModelError(f"{file_name}: {num_heads} heads do not divide the attention width {inner_dim}")
    return {
        "model_type": "umt5",
        "vocab_size": vocab_size,
        "d_model": d_model,
        "d_ff": d_ff,
        "d_kv": inner_dim // num_heads,
        "num_heads": num_heads,
        "num_layers": 1
        + max(int(name.split(".")[2]) for name in shapes if re.match(r"encoder\.block\.\d{1,5}\.", name)),
        "relative_attention_num_buckets": num_buckets,
        "dense_act_fn": "gelu_pytorch_tanh",
        "is_gated_act": True,
        "layer_norm_epsilon": 1e-6,
    }


def umt5_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Every encoder tensor name of that model with its logical shape."""
    d_model, d_ff, inner_dim = config["d_model"], config["d_ff"], config["d_kv"] * config["num_heads"]
    shapes: dict[str, tuple[int, ...]] = {
        "shared.weight": (config["vocab_size"], d_model),
        "encoder.final_layer_norm.weight": (d_model,),
    }
    for i in range(config["num_layers"]):
        attention, feed_forward = f"encoder.block.{i}.layer.0", f"encoder.block.{i}.layer.1"
        shapes |= {f"{attention}.SelfAttention.{leaf}.weight": (inner_dim, d_model) for leaf in "qkv"}
        shapes |= {
            f"{attention}.SelfAttention.o.weight": (d_model, inner_dim),
            f"{attention}.SelfAttention.relative_attention_bias.weight": (
                config["relative_attention_num_buckets"],
                config["num_heads"],
            ),
            f"{attention}.layer_norm.weight": (d_model,),
            f"{feed_forward}.DenseReluDense.wi_0.weight": (d_ff, d_model),
            f"{feed_forward}.DenseReluDense.wi_1.weight": (d_ff, d_model),
            f"{feed_forward}.DenseReluDense.wo.weight": (d_model, d_ff),
            f"{feed_forward}.layer_norm.weight": (d_model,),
        }
    return shapes


def llama_name(t5: str) -> str:
    """llama.cpp's name of an encoder tensor under T5's own name."""
    top = next((llama for llama, name in _LLAMA_TOP.items() if name == t5), None)
    if top is not None:
        return top
    _, _, block, leaf = t5.removesuffix(".weight").split(".", 3)
    return f"enc.blk.{block}.{_LLAMA_OF_LEAF[leaf]}.weight"

"""UMT5 encoders as each converter writes them, from {T5's name: logical shape}.

* `llama_cpp`: convert_hf_to_gguf.py and llama-quantize. Architecture "t5encoder", or "t5" with the decoder inside.
* `t5_names`: T5's own names, as the gguf-connector's converter keeps them ("pig", "cow"); the host's tokenizer tensor
  comes along as floats, because GGUF has no unsigned bytes.
"""

import math
from collections.abc import Mapping

from wan_gguf.tests.loaders.build import text
from wan_gguf.tests.loaders.dialects import DialectFile, Shapes, Stored, base_type, file_type_keys
from wan_gguf.tests.loaders.models import UMT5_BLOCK

_TOP = {"shared.weight": "token_embd.weight", "encoder.final_layer_norm.weight": "enc.output_norm.weight"}
_LEAVES = {t5: llama for llama, t5, *_ in UMT5_BLOCK}
_V_TYPES = {"Q2_K": "Q3_K", "Q3_K_M": "Q4_K", "Q3_K_L": "Q5_K"}
_FIRST_TYPES = {"Q3_K_M": {"attn_v": 2, "ffn_down": 1}, "Q4_K_S": {"attn_v": 4, "ffn_down": 3}}  # these become Q5_K


def llama_name(name: str) -> str:
    """llama.cpp's name of an encoder tensor."""
    if name in _TOP:
        return _TOP[name]
    _, _, index, leaf = name.removesuffix(".weight").split(".", 3)
    return f"enc.blk.{index}.{_LEAVES[leaf]}.weight"


def llama_cpp(
    shapes: Shapes,
    file_type: str = "Q5_K_M",
    architecture: str = "t5encoder",
    relative_bias: str = "F32",
    tokenizer: Mapping[str, bytes] | None = None,
) -> DialectFile:
    """`tokenizer` are the keys that the converter adds; architecture "t5" brings the decoder's tensors."""
    tensors = {}
    n_layers = sum(name.endswith(".SelfAttention.q.weight") for name in shapes)
    for name, shape in shapes.items():
        stored = llama_name(name)
        tensors[stored] = Stored(name, _type(stored, shape, file_type, relative_bias, n_layers), shape)
    if architecture == "t5":
        tensors |= _decoder(tensors)
    return DialectFile(tensors, _keys(architecture, file_type, tokenizer))


def _keys(architecture: str, file_type: str, tokenizer: Mapping[str, bytes] | None) -> dict[str, bytes]:
    return file_type_keys(architecture, file_type) | {"general.type": text("model")} | dict(tokenizer or {})


def _type(name: str, shape: tuple[int, ...], file_type: str, relative_bias: str, n_layers: int) -> str:
    """llama-quantize's own rule for encoders; the embedding stands in for the missing output matrix."""
    if len(shape) == 1:
        return "F32"
    if "attn_rel_b" in name:
        return relative_bias
    type_name = base_type(file_type)
    if name == "token_embd.weight":
        return type_name if type_name in ("F16", "BF16", "Q8_0") else "Q6_K"
    _, _, index, leaf, _ = name.split(".")
    if leaf not in ("attn_v", "ffn_down"):
        return type_name
    if int(index) < _FIRST_TYPES.get(file_type, {}).get(leaf, 0):
        return "Q5_K"
    if file_type in ("Q4_K_M", "Q5_K_M"):
        return "Q6_K" if _use_more_bits(int(index), n_layers) else type_name
    return _V_TYPES.get(file_type, type_name)


def _use_more_bits(i: int, n_layers: int) -> bool:
    """llama.cpp's choice of half the layers: the first and last eighth and every third between them."""
    eighth = n_layers // 8
    return i < eighth or i >= 7 * n_layers // 8 or (i - eighth) % 3 == 2


def _decoder(encoder: Mapping[str, Stored]) -> dict[str, Stored]:
    """The decoder mirrors the encoder and adds cross attention; `output.weight` is the language model's head."""
    tensors = {
        name.replace("enc.", "dec.", 1): Stored(None, stored.type_name, stored.shape)
        for name, stored in encoder.items()
        if name.startswith("enc.")
    }
    tensors |= {name.replace(".attn_", ".cross_attn_"): stored for name, stored in tensors.items() if ".attn_" in name}
    embedding = encoder["token_embd.weight"]
    return {**tensors, "output.weight": Stored(None, embedding.type_name, embedding.shape)}


def t5_names(
    shapes: Shapes,
    type_name: str = "Q4_0",
    architecture: str = "pig",
    spiece_bytes: int = 0,
    tokenizer: Mapping[str, bytes] | None = None,
) -> DialectFile:
    """Either a tokenizer of so many bytes as the tensor `spiece_model`, or the usual keys in `tokenizer`."""
    tensors = {}
    for name, shape in shapes.items():
        is_fine = len(shape) == 1 or math.prod(shape) <= 1024 or "relative_attention_bias" in name
        tensors[name] = Stored(name, "F32" if is_fine else type_name, shape)
    if spiece_bytes:
        tensors["spiece_model"] = Stored(None, "F16", (spiece_bytes,))
    return DialectFile(tensors, _keys(architecture, type_name, tokenizer))

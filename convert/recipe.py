"""Which type every tensor gets: the rule of the published Wan and UMT5 files.

Wan: tools/convert.py and lcpp.patch of ComfyUI-GGUF (QuantStack, unsloth, city96 and most others use them). What stays
unquantised depends on the tensor's dtype in the checkpoint: convert.py keeps norms, biases and modulation in F32 where
they are F32 or BF16 there, and makes all else BF16 where it was BF16 and F16 where not. A GGUF as source stands for
convert.py's output, so what is not quantised stays as it is.

UMT5: llama.cpp's own rule for an encoder without output matrix.

The patch refuses IQ4_NL and IQ4_XS; here they are the type of every quantised matrix, without exceptions.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from .ggml_types import PLAIN, base_type, block_size

_KEPT = (
    "modulation.", "patch_embedding.", "text_embedding.", "time_projection.", "time_embedding.", "img_emb.", "head.",
)  # fmt: skip
_SMALL = 1024  # elements
_WAN_V = {"Q2_K": "Q3_K", "Q3_K_L": "Q5_K", "Q4_K_M": "Q6_K", "Q5_K_M": "Q6_K"}
_WAN_FFN_2 = {
    "Q3_K_M": "Q4_K", "Q3_K_L": "Q5_K", "Q4_K_S": "Q5_K", "Q4_K_M": "Q6_K", "Q5_K_M": "Q6_K", "Q4_0": "Q4_1",
    "Q5_0": "Q5_1",
}  # fmt: skip
_FIRST_V = {"Q3_K_M": (2, "Q4_K"), "Q4_K_S": (4, "Q4_K")}  # so many in Q5_K, the others
_UMT5_OTHERS = {"Q2_K": "Q3_K", "Q3_K_M": "Q4_K", "Q3_K_L": "Q5_K"}
_UMT5_FIRST = {"Q3_K_M": {"v": 2, "wo": 1}, "Q4_K_S": {"v": 4, "wo": 3}}  # blocks that get Q5_K


@dataclass(frozen=True)
class Spec:
    """What the rule looks at: the logical shape, and the dtype in the source (a GGML or a safetensors name)."""

    shape: tuple[int, ...]
    dtype: str


def wan_types(tensors: Mapping[str, Spec], file_type: str, from_gguf: bool = False) -> dict[str, str]:
    """{official name: GGML type}; the tensors' order counts, because the first v matrices may be finer."""
    types, n_v = {}, 0
    for name, spec in tensors.items():
        quantised = None if file_type in PLAIN else _wan_quantised(name, spec.shape, file_type, n_v)
        n_v += ".v.weight" in name
        types[name] = quantised or _wan_unquantised(name, spec, file_type, from_gguf)
    return types


def _wan_quantised(name: str, shape: tuple[int, ...], file_type: str, n_v: int) -> str | None:
    """lcpp.patch's rule; `n_v` tensors named v came before. None: not quantised."""
    if not name.endswith("weight") or "_norm.weight" in name or len(shape) != 2 or any(part in name for part in _KEPT):
        return None
    type_name = base_type(file_type)
    if ".v.weight" in name:
        if file_type in _FIRST_V:
            first, others = _FIRST_V[file_type]
            type_name = "Q5_K" if n_v < first else others
        else:
            type_name = _WAN_V.get(file_type, type_name)
    elif ".ffn.2.weight" in name:
        type_name = _WAN_FFN_2.get(file_type, type_name)
    return _fitting(type_name, shape)


def _fitting(type_name: str, shape: tuple[int, ...]) -> str:
    """F16 where a row is no whole number of blocks."""
    return "F16" if shape[-1] % block_size(type_name)[0] else type_name


def _wan_unquantised(name: str, spec: Spec, file_type: str, from_gguf: bool) -> str:
    is_fine = len(spec.shape) == 1 or math.prod(spec.shape) <= _SMALL or ".modulation" in name
    if file_type == "F32" or name == "patch_embedding.weight":
        return "F32"
    if file_type in PLAIN and not is_fine:
        return file_type
    if from_gguf:
        return spec.dtype if spec.dtype in PLAIN else "F32" if is_fine else "F16"
    if is_fine and spec.dtype in ("F32", "BF16"):
        return "F32"
    return "BF16" if spec.dtype == "BF16" else "F16"


def umt5_types(tensors: Mapping[str, Spec], file_type: str) -> dict[str, str]:
    """{T5's name: GGML type}."""
    n_layers = sum(name.endswith(".SelfAttention.q.weight") for name in tensors)
    return {name: _umt5_type(name, spec.shape, file_type, n_layers) for name, spec in tensors.items()}


def _umt5_type(name: str, shape: tuple[int, ...], file_type: str, n_layers: int) -> str:
    """Norms and the relative bias stay F32; the token table stands in for the output matrix, which is finer."""
    if len(shape) == 1 or "relative_attention_bias" in name:
        return "F32"
    type_name = base_type(file_type)
    if file_type in PLAIN:
        return type_name
    if name == "shared.weight":
        return _fitting(type_name if type_name == "Q8_0" else "Q6_K", shape)
    _, _, block, *_, leaf, _ = name.split(".")
    if leaf in ("v", "wo"):
        type_name = _umt5_finer(leaf, int(block), file_type, n_layers)
    return _fitting(type_name, shape)


def _umt5_finer(leaf: str, block: int, file_type: str, n_layers: int) -> str:
    """The attention's v and the feed-forward's wo, llama.cpp's attn_v and ffn_down."""
    base = base_type(file_type)
    if block < _UMT5_FIRST.get(file_type, {}).get(leaf, 0):
        return "Q5_K"
    if file_type in ("Q4_K_M", "Q5_K_M"):
        return "Q6_K" if _use_more_bits(block, n_layers) else base
    return _UMT5_OTHERS.get(file_type, base)


def _use_more_bits(block: int, n_layers: int) -> bool:
    """llama.cpp's choice of half the layers: the first and last eighth and every third between them."""
    eighth = n_layers // 8
    return block < eighth or block >= 7 * n_layers // 8 or (block - eighth) % 3 == 2

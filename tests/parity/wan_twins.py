"""One random Wan transformer twice: a GGUF file with the official names, and diffusers' WanTransformer3DModel.

diffusers and the official repository (wan/modules/model.py) name the same tensors differently: `official_name`. Its
norm2 is the official norm3, the only block norm with parameters; the order in which the two run is the same.
"""

import re
from pathlib import Path

import torch
from diffusers import WanTransformer3DModel

from wan_gguf.tests.loaders.build import gguf_bytes
from wan_gguf.tests.loaders.models import Types, wan_tensors
from wan_gguf.tests.parity.quantised import encode

DIM, FFN, TEXT_DIM, LAYERS = 256, 512, 256, 2
PUBLISHED_TYPES = {  # every block type of the published files, all in one model
    "self_attn.q": "Q8_0", "self_attn.k": "Q4_0", "self_attn.v": "Q6_K", "self_attn.o": "Q4_K",
    "cross_attn.q": "Q5_K", "cross_attn.k": "Q3_K", "cross_attn.v": "Q2_K", "cross_attn.o": "Q5_0",
    "ffn.0": "Q4_1", "ffn.2": "Q5_1",
}  # fmt: skip

_PARTS = [  # in this order: the first that fits is taken
    (r"^scale_shift_table$", "head.modulation"),
    (r"^proj_out\.", "head.head."),
    (r"^condition_embedder\.time_embedder\.linear_1\.", "time_embedding.0."),
    (r"^condition_embedder\.time_embedder\.linear_2\.", "time_embedding.2."),
    (r"^condition_embedder\.time_proj\.", "time_projection.1."),
    (r"^condition_embedder\.text_embedder\.linear_1\.", "text_embedding.0."),
    (r"^condition_embedder\.text_embedder\.linear_2\.", "text_embedding.2."),
    (r"\.scale_shift_table$", ".modulation"),
    (r"\.attn1\.", ".self_attn."),
    (r"\.attn2\.", ".cross_attn."),
    (r"\.norm2\.", ".norm3."),
    (r"\.ffn\.net\.0\.proj\.", ".ffn.0."),
    (r"\.ffn\.net\.2\.", ".ffn.2."),
]
_ATTENTION = {".to_q.": ".q.", ".to_k.": ".k.", ".to_v.": ".v.", ".to_out.0.": ".o."}


def official_name(name: str) -> str:
    """diffusers' name of a tensor -> the official one."""
    for pattern, official in _PARTS:
        name, count = re.subn(pattern, official, name)
        if count:
            break
    for theirs, official in _ATTENTION.items():
        name = name.replace(theirs, official)
    return name


def make_twins(
    path: Path, channels: int = 16, out: int = 16, types: str | dict[str, str] = "F32", plain: str = "F32"
) -> WanTransformer3DModel:
    """Write the file and return its twin.

    `types` are those of the blocks' matrices, one for all or by a part of the name; `plain` is that of all other
    tensors but the patch embedding.
    """
    tensors = _tensors(channels, out, types, plain)
    encoded = {
        name: encode(type_name, shape, *_spread(name, shape), seed)
        for seed, (name, (type_name, shape)) in enumerate(tensors.items())
    }
    path.write_bytes(gguf_bytes(tensors, contents={name: data for name, (data, _) in encoded.items()}))
    twin = WanTransformer3DModel(
        num_attention_heads=DIM // 128, attention_head_dim=128, in_channels=channels, out_channels=out,
        text_dim=TEXT_DIM, ffn_dim=FFN, num_layers=LAYERS,
    )  # fmt: skip
    names = {official_name(name): name for name in twin.state_dict()}
    twin.load_state_dict({names[name]: values for name, (_, values) in encoded.items()})
    return twin.float().eval()


def _tensors(channels: int, out: int, types: str | dict[str, str], plain: str) -> Types:
    first = types if isinstance(types, str) else "F32"
    tensors = wan_tensors(DIM, FFN, channels, out, LAYERS, quantised=first, plain=plain, text_dim=TEXT_DIM)
    by_part = {} if isinstance(types, str) else types
    for name, (_, shape) in tensors.items():
        for part, type_name in by_part.items():
            if name.startswith("blocks.") and name.endswith(f"{part}.weight"):
                tensors[name] = (type_name, shape)
    return tensors


def _spread(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """(std, mean) of a tensor: outputs of every layer stay near 1, and no tensor is without effect."""
    if len(shape) > 1 and "modulation" not in name:
        return float(torch.Size(shape[1:]).numel()) ** -0.5, 0.0
    return 0.1, 1.0 if "norm" in name and name.endswith("weight") else 0.0

"""Writes files with the tables, types and sizes of published ones, and random weights.

* Wan transformers as ComfyUI-GGUF's tools make a Q4_K_M from an F16 checkpoint (QuantStack's uploads): v and ffn.2 in
  Q6_K, other matrices of the blocks in Q4_K, the patch embedding in F32 and all else in F16.
* UMT5-XXL as llama.cpp makes a Q5_K_M (city96's upload): token table, and v and ffn_down of half the layers, in Q6_K,
  other matrices in Q5_K, the rest in F32. The vocabulary has 256,384 tokens as the real one, of made-up words.

Every byte of the data is written: a hole would be read from no disk, and zeros would hide what overflows.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

from wan_gguf.benchmarks.full_size_blocks import tensor_pieces
from wan_gguf.benchmarks.shapes import TI2V_5B, Shape
from wan_gguf.benchmarks.weights import type_of
from wan_gguf.loaders.gguf import open_gguf
from wan_gguf.loaders.umt5 import t5_name, umt5_shapes
from wan_gguf.loaders.wan_config import wan_shapes
from wan_gguf.ops.formats import FORMATS

# QuantStack/Wan2.2-TI2V-5B-GGUF and Wan2.2-T2V-A14B-GGUF, Q4_K_M; city96/umt5-xxl-encoder-gguf Q5_K_M without the
# 6,367,072 bytes before its data, which the tokenizer fills.
PUBLISHED = {"ti2v-5b": 3_433_116_000, "a14b": 9_650_090_496, "umt5-xxl data": 4_139_511_808}

A14B = {**TI2V_5B, "dim": 5120, "ffn_dim": 13824, "num_heads": 40, "num_layers": 40, "in_dim": 16, "out_dim": 16}
UMT5_XXL = {
    "vocab_size": 256_384, "d_model": 4096, "d_ff": 10240, "d_kv": 64, "num_heads": 64, "num_layers": 24,
    "relative_attention_num_buckets": 32,
}  # fmt: skip
TINY_UMT5 = {**UMT5_XXL, "vocab_size": 1024, "d_model": 256, "d_ff": 512, "num_heads": 4, "num_layers": 2}

LEAVES = (
    "attn_q", "attn_k", "attn_v", "attn_o", "attn_rel_b", "attn_norm", "ffn_gate", "ffn_up", "ffn_down", "ffn_norm",
)  # fmt: skip
SPECIAL = {"<pad>": 3, "</s>": 3, "<s>": 3, "<unk>": 2}  # piece -> type
NORMAL, UNUSED, BYTE = 1, 5, 6
FILLERS = 384  # tokens behind the last piece that make the table's length round
FILE_TYPES = {"Q4_K_M": 15, "Q5_K_M": 17}

Tensors = Mapping[str, tuple[str, tuple[int, ...]]]
"""{name: (type, shape)}"""


@dataclass(frozen=True)
class Written:
    """A file and its size, altogether and of the data alone."""

    path: Path
    nbytes: int
    data_bytes: int

    @classmethod
    def found(cls, path: Path) -> "Written":
        """As it lies on the disk."""
        with open_gguf(path) as file:
            start = min(info.offset for info in file.tensors.values())
        nbytes = path.stat().st_size
        return cls(path, nbytes, nbytes - start)


def ti2v_5b(tiny: bool) -> Tensors:
    """The table of TI2V-5B, or of the smallest model like it."""
    return _wan(Shape.tiny().config if tiny else {**TI2V_5B, "num_layers": 30})


def a14b(tiny: bool) -> Tensors:
    """The table of an expert of T2V-A14B, or of the smallest model like it."""
    return _wan({**Shape.tiny().config, "in_dim": 16, "out_dim": 16} if tiny else A14B)


def _wan(config: dict) -> Tensors:
    return {name: (_wan_type(name, shape), shape) for name, shape in wan_shapes(config).items()}


def _wan_type(name: str, shape: tuple[int, ...]) -> str:
    if name == "patch_embedding.weight":
        return "F32"
    return type_of(name, shape, "Q4_K_M") if len(shape) == 2 else "F16"


def umt5_xxl(tiny: bool) -> Tensors:
    """The table of UMT5-XXL, or of the smallest encoder like it, in llama.cpp's names."""
    config = TINY_UMT5 if tiny else UMT5_XXL
    shapes, layers = umt5_shapes(config), config["num_layers"]
    names = [f"enc.blk.{i}.{leaf}.weight" for i in range(layers) for leaf in LEAVES]
    tensors = {}
    for name in ("token_embd.weight", *names, "enc.output_norm.weight"):
        shape = shapes[t5_name(name)]
        tensors[name] = (_umt5_type(name, shape, layers), shape)
    return tensors


def _umt5_type(name: str, shape: tuple[int, ...], layers: int) -> str:
    if len(shape) == 1 or "attn_rel_b" in name:
        return "F32"
    if name == "token_embd.weight":
        return "Q6_K"
    i, eighth = int(name.split(".")[2]), layers // 8
    more_bits = i < eighth or i >= 7 * layers // 8 or (i - eighth) % 3 == 2
    return "Q6_K" if more_bits and ("attn_v" in name or "ffn_down" in name) else "Q5_K"


def word(i: int) -> str:
    """A made-up word that is one piece of the vocabulary; with its mark 9 bytes, the mean of the real pieces."""
    return f"w{i:05x}"


def vocabulary(size: int) -> tuple[list[str], list[float], list[int]]:
    """Pieces, scores and types: special ones, all bytes, words that grow rarer, fillers."""
    pieces = [*SPECIAL, *(f"<0x{value:02X}>" for value in range(256))]
    types = [*SPECIAL.values(), *[BYTE] * 256]
    words = size - FILLERS - len(pieces)
    scores = [0.0] * len(pieces) + [-math.log(2 + i) for i in range(words)] + [-10000.0] * FILLERS
    pieces += [f"▁{word(i)}" for i in range(words)] + [f"[PAD{i}]" for i in range(FILLERS)]
    return pieces, scores, types + [NORMAL] * words + [UNUSED] * FILLERS


def write_wan(path: Path, tensors: Tensors, seed: int) -> None:
    """A Wan transformer; other seeds, other weights."""
    _write(path, gguf.GGUFWriter(path, "wan"), "Q4_K_M", tensors, seed)


def write_umt5(path: Path, tensors: Tensors, seed: int) -> None:
    """An encoder with its tokenizer."""
    writer = gguf.GGUFWriter(path, "t5encoder")
    pieces, scores, types = vocabulary(tensors["token_embd.weight"][1][0])
    writer.add_tokenizer_model("t5")
    writer.add_token_list(pieces)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_add_space_prefix(True)
    writer.add_remove_extra_whitespaces(True)
    writer.add_pad_token_id(0)
    writer.add_eos_token_id(1)
    _write(path, writer, "Q5_K_M", tensors, seed)


def _write(path: Path, writer: gguf.GGUFWriter, file_type: str, tensors: Tensors, seed: int) -> None:
    writer.add_quantization_version(2)
    writer.add_file_type(FILE_TYPES[file_type])
    for name, (type_name, shape) in tensors.items():
        kind = gguf.GGMLQuantizationType[type_name]
        writer.add_tensor_info(name, shape, np.dtype(np.float32), data_bytes(type_name, shape), kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    rng = np.random.default_rng(seed)
    with path.open("ab") as file:
        file.write(bytes(-file.tell() % 32))
        for name, (type_name, shape) in tensors.items():
            is_norm = "norm" in name and name.endswith("weight")
            for piece in tensor_pieces(type_name, shape, rng, float(is_norm)):
                file.write(piece.data)
            file.write(bytes(-file.tell() % 32))
        file.flush()
        os.fsync(file.fileno())  # pages that are not on the disk cannot be dropped from memory


def data_bytes(type_name: str, shape: tuple[int, ...]) -> int:
    """Size of a tensor's data."""
    return FORMATS[type_name].row_bytes(shape[-1]) * math.prod(shape[:-1])


def total_bytes(tensors: Tensors) -> int:
    """Size of the data of a file, padding included."""
    return sum(-(-data_bytes(*tensor) // 32) * 32 for tensor in tensors.values())

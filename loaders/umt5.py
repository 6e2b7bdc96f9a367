"""UMT5 text encoders: GGUF in llama.cpp's naming or T5's own, and safetensors as the host's files are made.

Architectures "t5" and "t5encoder" alike: names decide, decoder tensors (dec.*) are ignored. The tokenizer comes along
as a serialized sentencepiece model: built from tokenizer.ggml.*, or the host's tensor of bytes, which converters that
know no bytes store as floats.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..ops.dequantize import dequantize
from ..ops.packed import PackedWeight
from .gguf import GGUFFile, open_gguf
from .identify import WrongModelError
from .restore import recorded_shapes, restore
from .safetensors_file import SafetensorsEntry, open_safetensors, read_header, read_tensor_bytes
from .sniff import is_safetensors
from .tokenizer import build_spiece_model
from .umt5_config import (
    SPIECE_KEY,
    check_dtypes,
    has_tokenizer,
    t5_name,
    umt5_config,
    umt5_layout,
    umt5_shapes,
)

__all__ = [
    "SPIECE_KEY",
    "UMT5Checkpoint",
    "check_dtypes",
    "has_tokenizer",
    "load_umt5",
    "t5_name",
    "umt5_config",
    "umt5_layout",
    "umt5_shapes",
]


@dataclass(frozen=True)
class UMT5Checkpoint:
    """A UMT5 encoder. `tensors` has T5 names and logical shapes; `spiece_model` is a serialized sentencepiece model."""

    path: Path
    config: dict[str, Any]
    tensors: dict[str, PackedWeight]
    spiece_model: bytes


def load_umt5(path: str | Path) -> UMT5Checkpoint:
    """Map and validate the file; no tensor data but the tokenizer is read.

    Raises GGUFError or SafetensorsError (damaged), WrongModelError (another model, no tokenizer), OSError.
    """
    path = Path(path)
    with path.open("rb") as file:
        head = file.read(64)
    return _from_safetensors(path) if is_safetensors(head) else _from_gguf(open_gguf(path))


def _from_gguf(file: GGUFFile) -> UMT5Checkpoint:
    config, expected, stored_names = umt5_layout(recorded_shapes(file), file.path.name)
    file.announce_small()
    spiece_model = _gguf_tokenizer(file, config["vocab_size"])
    tensors = {name: restore(file.packed(stored_names[name]), shape) for name, shape in expected.items()}
    return UMT5Checkpoint(file.path, config, tensors, spiece_model)


def _gguf_tokenizer(file: GGUFFile, vocab_size: int) -> bytes:
    if "tokenizer.ggml.tokens" not in file.metadata and SPIECE_KEY in file.tensors:
        return _spiece_floats(file)
    spiece_model = build_spiece_model(file.metadata, file.path.name)
    n_tokens = len(file.metadata["tokenizer.ggml.tokens"])
    if n_tokens > vocab_size:
        raise WrongModelError(
            f"{file.path.name}: tokenizer.ggml.tokens has {n_tokens} tokens; the embedding has "
            f"{vocab_size} rows; download or convert the file again"
        )
    return spiece_model


def _spiece_floats(file: GGUFFile) -> bytes:
    """The bytes that the tensor `spiece_model` holds as whole numbers in a float type."""
    values = dequantize(file.packed(SPIECE_KEY)).flatten()
    whole = values.clamp(0, 255).nan_to_num().to(torch.uint8)
    if not torch.equal(whole.to(values.dtype), values):
        raise WrongModelError(
            f"{file.path.name}: tensor {SPIECE_KEY}: has values other than the whole numbers 0 to 255; "
            "download or convert the file again"
        )
    return whole.numpy().tobytes()


def _from_safetensors(path: Path) -> UMT5Checkpoint:
    entries, _ = read_header(path)
    check_dtypes(path, entries)
    config, expected, stored_names = umt5_layout({name: entry.shape for name, entry in entries.items()}, path.name)
    spiece_model = _spiece_tensor(path, entries)
    packed = open_safetensors(path, stored_names.values())
    tensors = {name: restore(packed[stored_names[name]], shape) for name, shape in expected.items()}
    return UMT5Checkpoint(path, config, tensors, spiece_model)


def _spiece_tensor(path: Path, entries: Mapping[str, SafetensorsEntry]) -> bytes:
    entry = entries.get(SPIECE_KEY)
    if entry is None or entry.dtype not in ("U8", "I8") or not entry.nbytes:
        raise WrongModelError(
            f"{path.name}: has no tokenizer (tensor {SPIECE_KEY} is missing); use the UMT5 file made for ComfyUI, "
            "or a GGUF with the tokenizer inside"
        )
    return read_tensor_bytes(path, entry)

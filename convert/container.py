"""What stands before the data of a GGUF or safetensors file, from the plan alone: bytes, offsets and the file's length.

GGUF: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, version 3, alignment 32. Shapes are written as they
are, five dimensions too, fastest first.
"""

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..loaders.gguf import StringArray
from .ggml_types import tensor_bytes, type_id

ALIGNMENT = 32
_STRING, _ARRAY = 8, 9
_NUMBERS = {  # numpy dtype: GGUF value type
    "uint8": 0, "int8": 1, "uint16": 2, "int16": 3, "uint32": 4, "int32": 5, "float32": 6, "bool": 7, "uint64": 10,
    "int64": 11, "float64": 12,
}  # fmt: skip


@dataclass(frozen=True)
class PlannedTensor:
    """One tensor of the file to be: its stored name, the source's name of it, its type and its shape.

    `data` are the bytes of one that no tensor of the source becomes.
    """

    name: str
    source: str
    type_name: str
    shape: tuple[int, ...]
    data: bytes | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of its data, without padding."""
        return tensor_bytes(self.type_name, self.shape)


@dataclass(frozen=True)
class Layout:
    """The bytes before the data; each tensor's data is followed by zeros up to a multiple of `alignment`."""

    head: bytes
    alignment: int
    nbytes: int


def gguf_layout(tensors: Sequence[PlannedTensor], metadata: Mapping[str, Any]) -> Layout:
    """The layout of a GGUF file."""
    head = bytearray(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata)))
    for key, value in metadata.items():
        head += _string(key) + _value(value)
    offset = 0
    for tensor in tensors:
        n_dims = len(tensor.shape)
        head += _string(tensor.name)
        head += struct.pack(f"<I{n_dims}QIQ", n_dims, *reversed(tensor.shape), type_id(tensor.type_name), offset)
        offset += padded(tensor.nbytes, ALIGNMENT)
    head += bytes(padded(len(head), ALIGNMENT) - len(head))
    return Layout(bytes(head), ALIGNMENT, len(head) + offset)


def safetensors_layout(tensors: Sequence[PlannedTensor], metadata: Mapping[str, str]) -> Layout:
    """The layout of a safetensors file; a type is F32, F16, BF16 or, for bytes, I8 (written as U8)."""
    table: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for tensor in tensors:
        dtype = "U8" if tensor.type_name == "I8" else tensor.type_name
        end = offset + tensor.nbytes
        table[tensor.name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(table, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return Layout(struct.pack("<Q", len(text)) + text, 1, 8 + len(text) + offset)


def padded(nbytes: int, alignment: int) -> int:
    """The next multiple of the alignment."""
    return -(-nbytes // alignment) * alignment


def _string(text: str | bytes) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(raw)) + raw


def _value(value: Any) -> bytes:
    """Type and bytes of a metadata value: whole numbers are u32 where they fit, real ones f32."""
    if isinstance(value, str):
        return struct.pack("<I", _STRING) + _string(value)
    if isinstance(value, bool):
        return struct.pack("<IB", _NUMBERS["bool"], value)
    if isinstance(value, int):
        if 0 <= value < 1 << 32:
            return struct.pack("<II", _NUMBERS["uint32"], value)
        return struct.pack("<Iq", _NUMBERS["int64"], value)
    if isinstance(value, float):
        return struct.pack("<If", _NUMBERS["float32"], value)
    if isinstance(value, np.ndarray):
        number = _NUMBERS[value.dtype.name]
        return struct.pack("<IIQ", _ARRAY, number, value.size) + value.astype(value.dtype.newbyteorder("<")).tobytes()
    if isinstance(value, StringArray):
        return struct.pack("<IIQ", _ARRAY, _STRING, len(value)) + b"".join(map(_string, value.raw()))
    if isinstance(value, list) and all(isinstance(item, str | bytes) for item in value):
        return struct.pack("<IIQ", _ARRAY, _STRING, len(value)) + b"".join(map(_string, value))
    raise TypeError(f"metadata value of type {type(value).__name__}: strings, numbers and arrays of them are allowed")

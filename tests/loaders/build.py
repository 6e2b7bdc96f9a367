"""Builds GGUF and safetensors files in memory for the loader tests, the wrong ones included."""

import json
import math
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wan_gguf.ops.formats import FORMATS
from wan_gguf.ops.packed import PackedWeight
from wan_gguf.tests.ops.scales import write_moderate_scales

_SCALARS = {"u8": (0, "<B"), "u32": (4, "<I"), "i32": (5, "<i"), "f32": (6, "<f"), "bool": (7, "<B"), "u64": (10, "<Q")}


def string(text: str | bytes) -> bytes:
    """A GGUF string."""
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(raw)) + raw


def scalar(kind: str, value: float) -> bytes:
    """Type and bytes of a scalar value."""
    number, code = _SCALARS[kind]
    return struct.pack("<I", number) + struct.pack(code, value)


def text(value: str | bytes) -> bytes:
    """Type and bytes of a string value."""
    return struct.pack("<I", 8) + string(value)


def array(kind: str, values: Sequence[Any]) -> bytes:
    """Type and bytes of an array of strings ("str") or numbers."""
    if kind == "str":
        return struct.pack("<IIQ", 9, 8, len(values)) + b"".join(string(value) for value in values)
    number, code = _SCALARS[kind]
    return struct.pack("<IIQ", 9, number, len(values)) + struct.pack(f"<{len(values)}{code[1:]}", *values)


def entry(name: str | bytes, ne: Sequence[int], type_id: int, offset: int) -> bytes:
    """One row of the tensor table; `ne` is fastest first."""
    return string(name) + struct.pack(f"<I{len(ne)}QIQ", len(ne), *ne, type_id, offset)


def header(n_tensors: int, n_keys: int, version: int = 3) -> bytes:
    """The first 24 bytes."""
    return b"GGUF" + struct.pack("<IQQ", version, n_tensors, n_keys)


def random_bytes(type_name: str, n_blocks: int, rng: np.random.Generator) -> bytes:
    """Blocks whose numbers are finite and moderate: random bits, scales of 2^-6 or so."""
    block_format = FORMATS[type_name]
    if type_name == "F32":
        return rng.standard_normal(n_blocks).astype("<f4").tobytes()
    if type_name == "F16":
        return rng.standard_normal(n_blocks).astype("<f2").tobytes()
    if type_name == "BF16":
        return (rng.standard_normal(n_blocks).astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    blocks = rng.integers(0, 256, (n_blocks, block_format.block_bytes), dtype=np.uint8)
    write_moderate_scales(type_name, blocks, rng)
    return blocks.tobytes()


Tensors = Mapping[str, tuple[str, Sequence[int]]]
"""{name: (type, torch shape)}"""


def tensor_bytes(type_name: str, shape: Sequence[int]) -> int:
    """Size of the tensor's data, without padding."""
    return FORMATS[type_name].row_bytes(shape[-1]) * math.prod(shape[:-1])


def gguf_head(tensors: Tensors, metadata: Mapping[str, bytes] | None = None) -> tuple[bytes, int]:
    """All that stands before the data of a valid file, padded, and the size of the data, padding included."""
    metadata = metadata or {}
    head = header(len(tensors), len(metadata)) + b"".join(string(key) + value for key, value in metadata.items())
    offset = 0
    for name, (type_name, shape) in tensors.items():
        head += entry(name, list(reversed(shape)), FORMATS[type_name].ggml_type, offset)
        offset += tensor_bytes(type_name, shape)
        offset += -offset % 32
    return head + bytes(-len(head) % 32), offset


def gguf_bytes(
    tensors: Tensors,
    metadata: Mapping[str, bytes] | None = None,
    seed: int = 0,
    contents: Mapping[str, bytes] | None = None,
) -> bytes:
    """A valid file: {name: (type, torch shape)}, {key: encoded value}; random data where `contents` has none."""
    rng, contents = np.random.default_rng(seed), contents or {}
    data = bytearray()
    for name, (type_name, shape) in tensors.items():
        n_blocks = math.prod(shape) // FORMATS[type_name].block_elems
        data += contents[name] if name in contents else random_bytes(type_name, n_blocks, rng)
        data += bytes(-len(data) % 32)
    return gguf_head(tensors, metadata)[0] + bytes(data)


def sparse_gguf(path: Path, tensors: Tensors, metadata: Mapping[str, bytes] | None = None) -> Path:
    """A file of full size whose data is a hole: no disk space, no time."""
    head, data_bytes = gguf_head(tensors, metadata)
    path.write_bytes(head)
    with path.open("r+b") as file:
        file.truncate(len(head) + data_bytes)
    return path


def safetensors_bytes(tensors: Mapping[str, tuple[str, Sequence[int], bytes]]) -> bytes:
    """{name: (dtype, shape, data)}."""
    table, data = {}, b""
    for name, (dtype, shape, raw) in tensors.items():
        table[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    encoded = json.dumps(table).encode()
    encoded += b" " * (-len(encoded) % 8)
    return struct.pack("<Q", len(encoded)) + encoded + data


def packed_weight(type_name: str, shape: tuple[int, ...], seed: int = 0) -> PackedWeight:
    """A weight of random finite values."""
    raw = random_bytes(type_name, math.prod(shape) // FORMATS[type_name].block_elems, np.random.default_rng(seed))
    return PackedWeight(torch.frombuffer(bytearray(raw), dtype=torch.uint8), FORMATS[type_name], shape)

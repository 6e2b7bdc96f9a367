"""All that stands before a GGUF file's data, checked before any tensor's bytes are touched; without torch."""

import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..map_file import map_file
from ..sniff import sniff
from .cursor import Cursor
from .metadata import MAX_KEYS, read_metadata
from .tensors import MAX_TENSORS, TensorInfo, read_tensor_table

DEFAULT_ALIGNMENT = 32
MAX_ALIGNMENT = 1 << 20


@dataclass(frozen=True)
class GGUFHeader:
    """The metadata and the tensor table; `buffer` is the mapped file, which arrays in the metadata view."""

    path: Path
    buffer: mmap.mmap | bytes
    metadata: dict[str, Any]
    tensors: dict[str, TensorInfo]


def read_gguf_header(path: str | Path) -> GGUFHeader:
    """Map the file and validate everything before the tensor data. Raises GGUFError; OSError when it cannot be read."""
    path = Path(path)
    buffer = map_file(path)
    cursor = Cursor(path, memoryview(buffer))
    _check_start(cursor)
    cursor.at = 8
    n_tensors = cursor.count("tensor count", 32, MAX_TENSORS)
    n_keys = cursor.count("metadata count", 13, MAX_KEYS)
    metadata = read_metadata(cursor, n_keys)
    tensors = read_tensor_table(cursor, n_tensors, _alignment(cursor, metadata))
    return GGUFHeader(path, buffer, metadata, tensors)


def _check_start(cursor: Cursor) -> None:
    head = bytes(cursor.buffer[:64])
    if head[:4] == b"FUGG":
        raise cursor.error("magic", "the file is a big-endian GGUF; little-endian is allowed", "convert it again")
    if head[:4] != b"GGUF":
        raise cursor.error("magic", f"the file is {sniff(head)}", "a GGUF file starts with the letters GGUF")
    cursor.at = 4
    version = cursor.u32("version")
    if version and version % 65536 == 0:
        raise cursor.error("version", "the file is a big-endian GGUF; little-endian is allowed", "convert it again")
    if version not in (2, 3):
        raise cursor.error("version", f"got {version}; 2 and 3 are allowed", "download or convert a current version")


def _alignment(cursor: Cursor, metadata: dict[str, Any]) -> int:
    value = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if type(value) is not int or not 1 <= value <= MAX_ALIGNMENT or value & (value - 1):
        raise cursor.error(
            "metadata general.alignment", f"got {value!r}; a power of two up to {MAX_ALIGNMENT} is allowed"
        )
    return value

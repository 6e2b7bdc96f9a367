"""Opening a GGUF file: header, metadata and tensor table are checked before any tensor's bytes are touched."""

import mmap
from pathlib import Path
from types import TracebackType
from typing import Any

from ...ops.packed import PackedWeight
from ..mapping import map_file, tensor_view
from ..sniff import sniff
from .cursor import Cursor, GGUFError
from .metadata import MAX_KEYS, read_metadata
from .tensors import MAX_TENSORS, TensorInfo, read_tensor_table

DEFAULT_ALIGNMENT = 32
MAX_ALIGNMENT = 1 << 20


class GGUFFile:
    """An open GGUF file. Closing it drops its own hold on the mapping; views handed out stay valid."""

    def __init__(
        self, path: Path, buffer: mmap.mmap | bytes, metadata: dict[str, Any], tensors: dict[str, TensorInfo]
    ) -> None:
        self.path = path
        self.metadata = metadata
        self.tensors = tensors
        self._buffer: mmap.mmap | bytes | None = buffer

    def packed(self, name: str) -> PackedWeight:
        """The tensor's bytes, zero copy and read-only. Raises KeyError for a name the file lacks."""
        info = self.tensors[name]
        if self._buffer is None:
            raise GGUFError(f"{self.path.name}: tensor {name}: the file was closed; open it again")
        return PackedWeight(tensor_view(self._buffer, info.offset, info.nbytes), info.format, info.shape)

    def close(self) -> None:
        """Let go of the file; the mapping ends with the last tensor or array that views it.

        Never by mmap.close(): torch.frombuffer keeps the object but not the lock that would make that call refuse.
        """
        self._buffer = None

    def __enter__(self) -> "GGUFFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_gguf(path: str | Path) -> GGUFFile:
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
    return GGUFFile(path, buffer, metadata, tensors)


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

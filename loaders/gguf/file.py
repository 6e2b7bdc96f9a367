"""An open GGUF file, whose tensors are views of the mapped bytes."""

import mmap
from pathlib import Path
from types import TracebackType
from typing import Any

from ...ops.formats import FORMATS
from ...ops.packed import PackedWeight
from ..mapping import announce, tensor_view
from .cursor import GGUFError
from .header import read_gguf_header
from .tensors import TensorInfo

# Norms, biases and modulation of the largest model have up to 123 KB; matrices that are read step by step have more.
SMALL_BYTES = 1 << 17


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
        return PackedWeight(tensor_view(self._buffer, info.offset, info.nbytes), FORMATS[info.format.name], info.shape)

    def announce_small(self) -> None:
        """Have the system read all small tensors, which who builds a model reads one by one, hundreds of them."""
        for info in self.tensors.values():
            if info.nbytes <= SMALL_BYTES and self._buffer is not None:
                announce(self._buffer, info.offset, info.nbytes)

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
    header = read_gguf_header(path)
    return GGUFFile(header.path, header.buffer, header.metadata, header.tensors)

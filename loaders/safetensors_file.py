"""Tensors of safetensors files as the same packed weights that GGUF gives; `safetensors_header.py` reads the table."""

from collections.abc import Iterable
from pathlib import Path

from ..ops.formats import FORMATS
from ..ops.packed import PackedWeight
from .map_file import map_file
from .mapping import tensor_view
from .safetensors_header import SafetensorsEntry, SafetensorsError, check_dtype, read_header, read_tensor_bytes

__all__ = [
    "SafetensorsEntry",
    "SafetensorsError",
    "check_dtype",
    "open_safetensors",
    "read_header",
    "read_tensor_bytes",
]


def open_safetensors(path: str | Path, names: Iterable[str] | None = None) -> dict[str, PackedWeight]:
    """The named tensors (default: all) as zero-copy packed weights; F32, F16, BF16, else SafetensorsError."""
    path = Path(path)
    entries, _ = read_header(path)
    buffer = map_file(path)
    packed = {}
    for name in entries if names is None else names:
        entry = entries[name]
        check_dtype(path, name, entry)
        packed[name] = PackedWeight(tensor_view(buffer, entry.offset, entry.nbytes), FORMATS[entry.dtype], entry.shape)
    return packed

"""The tensor table of a safetensors file, validated, without its data and without torch.

Format (https://huggingface.co/docs/safetensors): a u64 length, a JSON header of that length, then the data, in whose
bytes the header's offsets count.

A reader of our own rather than the safetensors library: the loaders need shapes and dtypes without touching data, raw
byte views whatever the dtype, and errors that name the file and the field; the library gives typed tensors and its own
errors.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .sniff import is_safetensors, sniff

MAX_HEADER_BYTES = 100_000_000  # the specification's limit
PACKED_DTYPES = ("F32", "F16", "BF16")  # those that are GGML types too
_ITEM_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "F4": 0.5, "U16": 2, "I16": 2, "F16": 2,
    "BF16": 2, "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8, "C64": 8,
}  # fmt: skip


class SafetensorsError(ValueError):
    """A safetensors file that cannot be used; the text is `FILE: FIELD: what was found; what to do`."""


@dataclass(frozen=True)
class SafetensorsEntry:
    """One tensor of the header. `dtype` is the safetensors name; `offset` counts from the start of the file."""

    dtype: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int


def read_header(path: str | Path) -> tuple[dict[str, SafetensorsEntry], dict[str, str]]:
    """The validated tensor table and the free-form metadata; no data is read. Raises SafetensorsError, OSError."""
    path = Path(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(64)
        if not is_safetensors(head):
            raise SafetensorsError(f"{path.name}: the file is {sniff(head)}; a safetensors file is allowed here")
        header_bytes = int.from_bytes(head[:8], "little")
        if header_bytes > min(size - 8, MAX_HEADER_BYTES):
            raise field_error(path, "header", f"its length is {header_bytes} bytes; the file has {size - 8} left")
        file.seek(8)
        text = file.read(header_bytes)
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=lambda pairs: _unique(path, pairs))
    except SafetensorsError:
        raise
    except (ValueError, RecursionError) as error:
        raise field_error(path, "header", f"is not JSON ({type(error).__name__})") from None
    metadata = header.pop("__metadata__", {})
    start = 8 + header_bytes
    entries = {name: _entry(path, name, fields, start, size) for name, fields in header.items()}
    _check_overlaps(path, entries)
    return entries, metadata if isinstance(metadata, dict) else {}


def check_dtype(path: Path, name: str, entry: SafetensorsEntry) -> None:
    """Raise SafetensorsError unless the tensor's dtype is one that becomes a packed weight."""
    if entry.dtype not in PACKED_DTYPES:
        found = f"dtype {entry.dtype}; F32, F16 and BF16 are allowed"
        raise field_error(path, f"tensor {name}", found, "use a 16-bit file or a GGUF")


def read_tensor_bytes(path: str | Path, entry: SafetensorsEntry) -> bytes:
    """A copy of one tensor's bytes."""
    with Path(path).open("rb") as file:
        file.seek(entry.offset)
        return file.read(entry.nbytes)


def field_error(path: Path, what: str, found: str, remedy: str = "download the file again") -> SafetensorsError:
    """The exception for field `what` of the file."""
    return SafetensorsError(f"{path.name}: {what}: {found}; {remedy}")


def _unique(path: Path, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise field_error(path, "header", "a name occurs twice")
    return found


def _is_counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 1 << 60 for item in value)


def _entry(path: Path, name: str, fields: Any, start: int, size: int) -> SafetensorsEntry:
    what = f"tensor {name}"
    if (
        not isinstance(fields, dict)
        or not _is_counts(fields.get("shape"))
        or not _is_counts(fields.get("data_offsets"))
    ):
        raise field_error(path, what, "its dtype, shape and data_offsets are not all there")
    dtype, shape, offsets = fields.get("dtype"), tuple(fields["shape"]), fields["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _ITEM_BYTES:
        raise field_error(path, what, f"dtype {dtype!r} is unknown")
    if len(offsets) != 2 or offsets[1] - offsets[0] != math.prod(shape) * _ITEM_BYTES[dtype]:
        raise field_error(path, what, f"data_offsets {offsets} do not hold {dtype} of shape {shape}")
    if start + offsets[1] > size:
        raise field_error(
            path, what, f"ends at byte {start + offsets[1]}; the file has {size}: the download is incomplete"
        )
    return SafetensorsEntry(dtype, shape, start + offsets[0], offsets[1] - offsets[0])


def _check_overlaps(path: Path, entries: dict[str, SafetensorsEntry]) -> None:
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].offset, item[1].nbytes)):
        if entry.offset < end:
            raise field_error(path, f"tensor {name}", "overlaps another tensor")
        end = entry.offset + entry.nbytes

"""Rows of numbers to the bytes of a GGML type.

libgguf (llama.cpp's reference quantisers as a wheel) does all types, with all cores, without the GIL. Where it has no
wheel, gguf-py does the types it can, with the same bytes; K-quants and IQ4 then are refused.
"""

import importlib.metadata

import numpy as np
from gguf import GGMLQuantizationType, quants

from .errors import ConvertError
from .ggml_types import PLAIN

try:
    import libgguf
except ImportError:
    libgguf = None

_GGUF_PY = ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0")  # what gguf-py can quantise
# The largest numbers: of F16, which every block's scale is, too; and of what rounds to a finite BF16.
LARGEST = 65504.0
_LARGEST_PLAIN = {"F32": float(np.finfo(np.float32).max), "BF16": 3.3895e38}


def quantizer() -> str:
    """What quantises, with its version: "libgguf 0.2.2"."""
    name = "gguf" if libgguf is None else "libgguf"
    return f"{name} {importlib.metadata.version(name)}"


def refuse_type(type_name: str) -> str | None:
    """Why nothing here makes this type on this machine, with the remedy, or None."""
    if libgguf is not None or type_name in _GGUF_PY:
        return None
    return (
        f"{type_name} needs the package libgguf, which is not installed here (it has wheels for Linux x86-64, Windows "
        f"x86-64 and macOS); install it, or choose {', '.join(_GGUF_PY[3:])}"
    )


def weighs_columns() -> bool:
    """Whether `quantize` can favour the columns that count more."""
    return libgguf is not None


def quantize(rows: np.ndarray, type_name: str, what: str, importance: np.ndarray | None = None) -> np.ndarray:
    """(n, k) float32, contiguous -> (bytes,) uint8; `what` names the tensor in errors. Raises ConvertError.

    `importance`, (k,) float32, weighs the squares of a column's errors (llama.cpp's importance matrix); None, which is
    what the published files were made with, is not the same as ones. gguf-py has no such thing and leaves it out.
    """
    _check(rows, type_name, what)
    kind = GGMLQuantizationType[type_name]
    if type_name == "F32":
        return rows.reshape(-1).view(np.uint8)
    if libgguf is None:
        return np.ascontiguousarray(quants.quantize(rows, kind)).reshape(-1).view(np.uint8)
    out = np.empty((rows.shape[0], libgguf.row_size(int(kind), rows.shape[1])), np.uint8)
    columns = None if type_name in PLAIN else importance
    libgguf.quantize_rows_into_raw(int(kind), rows, out, *rows.shape, columns)
    return out.reshape(-1)


def dequantize(packed: np.ndarray, type_name: str, k: int) -> np.ndarray:
    """(bytes,) uint8 of rows of k -> (n, k) float32, as the loaders decode them."""
    kind = GGMLQuantizationType[type_name]
    if libgguf is None or type_name in PLAIN:
        return quants.dequantize(packed, kind).reshape(-1, k)
    n = packed.size // libgguf.row_size(int(kind), k)
    rows = np.empty((n, k), np.float32)
    libgguf.dequantize_rows_into_raw(int(kind), packed, rows, n, k)
    return rows


def _check(rows: np.ndarray, type_name: str, what: str) -> None:
    """Raise ConvertError for numbers that the type cannot hold; one NaN makes both extremes NaN."""
    low, high = (float(rows.min()), float(rows.max())) if rows.size else (0.0, 0.0)
    largest = max(-low, high)
    if not np.isfinite(low) or not np.isfinite(high):
        n_bad = int(np.count_nonzero(~np.isfinite(rows)))
        raise ConvertError(
            f"{what}: {n_bad} of {rows.size} numbers are not finite; the source is damaged: download it again"
        )
    limit = _LARGEST_PLAIN.get(type_name, LARGEST)
    if largest > limit:
        raise ConvertError(
            f"{what}: has a number of size {largest:.6g}; {type_name} holds at most {limit:g}; choose BF16 or F32"
        )

"""What every type would cost a source's matrices: bytes, and the error of quantising, measured on rows of each.

    error = sum over rows n and columns k of (w - decoded)[n, k]^2 h[k]  /  (mean of w^2 * rows * sum of h)

is the energy of what quantising adds to a layer's output, in units of what weights of the same size would give; h[k] is
the mean square of the layer's input k where activations were recorded, else 1. `harm` is the error times the layer's
sensitivity: how much of an error in its output reaches the model's.

Measured on up to ROWS rows in RUN_ROWS at a time, spread evenly over a matrix: their errors differ by little.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .container import ALIGNMENT, padded
from .ggml_types import tensor_bytes
from .importance import Importance
from .quantize import dequantize, quantize, refuse_type
from .recipe import Spec, umt5_types, wan_types
from .source import Source, SourceTensor

ROWS, RUN_ROWS = 256, 8
# In the order of their size. The last five are for rows that are no multiple of 256.
TYPES = ("Q2_K", "Q3_K", "IQ4_XS", "IQ4_NL", "Q4_K", "Q5_K", "Q6_K", "Q8_0")
TYPES_OF_SHORT_ROWS = ("IQ4_NL", "Q4_0", "Q5_0", "Q5_1", "Q8_0")
_K_ROW = 256


@dataclass(frozen=True)
class TypeCost:
    """A type for one matrix: its bytes in the file, its relative square error, and what that does to the model."""

    type_name: str
    nbytes: int
    error: float
    harm: float


@dataclass(frozen=True)
class MatrixCosts:
    """One matrix with all its types, the smallest first."""

    name: str
    n_weights: int
    costs: tuple[TypeCost, ...]


def matrices(source: Source) -> list[str]:
    """Names of what the published rule quantises, in the file's order."""
    return [name for name, type_name in published_types(source, "Q8_0").items() if type_name == "Q8_0"]


def published_types(source: Source, file_type: str) -> dict[str, str]:
    """{name: type} by the published rule."""
    specs = {name: Spec(tensor.shape, tensor.dtype) for name, tensor in source.tensors.items()}
    return wan_types(specs, file_type, source.is_gguf) if source.kind == "wan" else umt5_types(specs, file_type)


def candidates(tensor: SourceTensor) -> list[str]:
    """Types that the tensor may get, the smallest first; none is larger than what it is stored in."""
    types = TYPES if tensor.row_length % _K_ROW == 0 else TYPES_OF_SHORT_ROWS
    found = [name for name in types if refuse_type(name) is None]
    if tensor.dtype == "Q8_0":
        return found
    return [*found, "BF16" if tensor.dtype == "BF16" else "F16"]


def sizes(source: Source) -> list[MatrixCosts]:
    """All matrices with the bytes of their types; nothing is measured, so errors and harm are 0."""
    found = []
    for name in matrices(source):
        tensor = source.tensors[name]
        costs = [TypeCost(type_name, _nbytes(type_name, tensor), 0.0, 0.0) for type_name in candidates(tensor)]
        found.append(MatrixCosts(name, tensor.n_rows * tensor.row_length, tuple(costs)))
    return found


def _nbytes(type_name: str, tensor: SourceTensor) -> int:
    return padded(tensor_bytes(type_name, tensor.shape), ALIGNMENT)


def measure(
    source: Source,
    importance: Importance,
    progress: Callable[[int, int, str], None] = lambda done, total, name: None,
) -> list[MatrixCosts]:
    """All matrices, in the file's order. `progress` gets matrices done, their number and the next one's name.

    Raises ConvertError, OSError, and what `progress` raises.
    """
    names, found = matrices(source), []
    for i, name in enumerate(names):
        progress(i, len(names), name)
        found.append(_measure(name, source, importance))
    progress(len(names), len(names), "")
    return found


def _measure(name: str, source: Source, importance: Importance) -> MatrixCosts:
    tensor = source.tensors[name]
    rows, what = sampled_rows(tensor), f"{source.path.name}: tensor {name}"
    columns = importance.columns(name, tensor.row_length)
    sensitivity = importance.sensitivity(name)
    costs = []
    for type_name in candidates(tensor):
        error = relative_error(rows, type_name, what, columns)
        costs.append(TypeCost(type_name, _nbytes(type_name, tensor), error, sensitivity * error))
    return MatrixCosts(name, tensor.n_rows * tensor.row_length, tuple(costs))


def sampled_rows(tensor: SourceTensor) -> np.ndarray:
    """Up to (ROWS, k) float32, contiguous."""
    n = tensor.n_rows
    if n <= ROWS:
        return np.ascontiguousarray(tensor.rows(0, n), np.float32)
    runs = ROWS // RUN_ROWS
    starts = [i * (n - RUN_ROWS) // (runs - 1) for i in range(runs)]
    return np.concatenate([tensor.rows(start, start + RUN_ROWS) for start in starts], dtype=np.float32)


def relative_error(rows: np.ndarray, type_name: str, what: str, columns: np.ndarray | None) -> float:
    """The error of the formula above, of (n, k) float32 rows; `columns` is h, (k,), or None for ones."""
    k = rows.shape[1]
    difference = dequantize(quantize(rows, type_name, what, columns), type_name, k)
    difference -= rows
    by_column = np.einsum("nk,nk->k", difference, difference, dtype=np.float64)
    h = np.ones(k) if columns is None else columns.astype(np.float64)
    energy = float(np.vdot(rows, rows)) / k * float(h.sum())
    return float(by_column @ h) / energy if energy else 0.0

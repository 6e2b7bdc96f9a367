"""How far a file's weights are from its source's: both decoded anew, tensor by tensor, in pieces of rows."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from .errors import ConvertError
from .source import Source

_PIECE_ELEMENTS = 1 << 21


@dataclass(frozen=True)
class TensorError:
    """Errors of one tensor. `relative` is the root of the mean square error over that of the source's weights."""

    name: str
    type_name: str
    source_dtype: str
    relative: float
    largest: float
    n_not_finite: int


def tensor_errors(
    made: Source, source: Source, check_interrupt: Callable[[], None] = lambda: None
) -> Iterator[TensorError]:
    """Every tensor of the file against the source's of that name. Raises ConvertError when they are other models."""
    if made.kind != source.kind:
        found = f"{made.path.name} is a {made.kind} model, {source.path.name} a {source.kind} model"
        raise ConvertError(f"{found}; name the source that the file was made from")
    for name, tensor in made.tensors.items():
        theirs = source.tensors.get(name)
        if theirs is None or theirs.shape != tensor.shape:
            shape = "missing" if theirs is None else f"of shape {theirs.shape}"
            raise ConvertError(
                f"{source.path.name}: tensor {name} is {shape}, in {made.path.name} of shape {tensor.shape}; "
                "name the source that the file was made from"
            )
        yield _error(name, made, source, check_interrupt)


def _error(name: str, made: Source, source: Source, check_interrupt: Callable[[], None]) -> TensorError:
    ours, theirs = made.tensors[name], source.tensors[name]
    step = max(1, _PIECE_ELEMENTS // ours.row_length)
    square = total = largest = 0.0
    n_not_finite = 0
    for start in range(0, ours.n_rows, step):
        check_interrupt()
        stop = min(start + step, ours.n_rows)
        found, wanted = ours.rows(start, stop), theirs.rows(start, stop)
        n_not_finite += int(np.count_nonzero(~np.isfinite(found)))
        difference = (found - wanted).astype(np.float64)
        square += float(np.vdot(difference, difference))
        total += float(np.vdot(wanted.astype(np.float64), wanted))
        largest = max(largest, float(np.abs(difference).max(initial=0.0)))
    relative = math.sqrt(square / total) if total else math.sqrt(square)
    return TensorError(name, ours.dtype, theirs.dtype, relative, largest, n_not_finite)

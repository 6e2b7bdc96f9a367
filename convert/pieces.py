"""The data of a plan in the order of the file, piece by piece: read, quantised, ready to be written.

A piece is a few million weights, so memory does not depend on the size of a tensor. Reading and decoding of one piece
overlap with the quantising of another, which itself uses every core.
"""

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from .container import PlannedTensor
from .plan import Plan
from .quantize import quantize
from .source import Source, SourceTensor

PIECE_ELEMENTS = 1 << 21
_AHEAD = 3  # pieces that are being made or wait to be written
_WORKERS = 2


@dataclass(frozen=True)
class Piece:
    """Rows start..stop of the plan's tensor number `index`."""

    index: int
    tensor: PlannedTensor
    start: int
    stop: int
    is_last: bool
    source_bytes: int


def packed_pieces(source: Source, plan: Plan) -> Generator[tuple[Piece, np.ndarray], None, None]:
    """(piece, its (nbytes,) uint8) for all of the plan. Raises ConvertError, OSError."""
    pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="convert")
    waiting: deque[tuple[Piece, Future[np.ndarray]]] = deque()
    try:
        for piece in _pieces(source, plan):
            waiting.append((piece, pool.submit(_pack, source, plan, piece)))
            if len(waiting) == _AHEAD:
                done, future = waiting.popleft()
                yield done, future.result()
        while waiting:
            done, future = waiting.popleft()
            yield done, future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _pieces(source: Source, plan: Plan) -> Iterator[Piece]:
    for index, tensor in enumerate(plan.tensors):
        if tensor.data is not None:
            yield Piece(index, tensor, 0, 0, True, 0)
            continue
        stored = source.tensors[tensor.source]
        step = max(1, PIECE_ELEMENTS // stored.row_length)
        for start in range(0, stored.n_rows, step):
            stop = min(start + step, stored.n_rows)
            share = stored.nbytes * stop // stored.n_rows - stored.nbytes * start // stored.n_rows
            yield Piece(index, tensor, start, stop, stop == stored.n_rows, share)


def _pack(source: Source, plan: Plan, piece: Piece) -> np.ndarray:
    tensor = piece.tensor
    if tensor.data is not None:
        return np.frombuffer(tensor.data, np.uint8)
    stored = source.tensors[tensor.source]
    raw = _unchanged(stored, piece)
    if raw is not None:
        return raw
    rows = np.ascontiguousarray(stored.rows(piece.start, piece.stop), np.float32)
    columns = None if plan.importance is None else plan.importance.columns(tensor.source, stored.row_length)
    return quantize(rows, tensor.type_name, f"{source.path.name}: tensor {tensor.source}", columns)


def _unchanged(stored: SourceTensor, piece: Piece) -> np.ndarray | None:
    """The source's own bytes, of a block type that stays what it is: quantising again could round anew."""
    if stored.dtype == piece.tensor.type_name and stored.is_blocks:
        return stored.raw_rows(piece.start, piece.stop)
    return None

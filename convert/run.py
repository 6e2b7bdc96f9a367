"""Doing a plan: from a source to a file that appears when it is complete."""

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from .container import padded
from .errors import ConvertError
from .hashes import Hashes
from .partial import PartialFile
from .pieces import packed_pieces
from .plan import HASHES, Plan
from .source import Source
from .target import check_target


@dataclass(frozen=True)
class Progress:
    """How far a conversion is: tensors written, bytes of the source used up, and the tensor at hand."""

    tensors: int
    n_tensors: int
    source_bytes: int
    n_source_bytes: int
    name: str


@dataclass(frozen=True)
class Summary:
    """What was written, from how much and in what time; `types` is {type: (tensors, bytes)}."""

    target: Path
    nbytes: int
    source_bytes: int
    seconds: float
    types: dict[str, tuple[int, int]]


def convert(
    source: Source,
    plan: Plan,
    target: str | Path,
    force: bool = False,
    progress: Callable[[Progress], None] = lambda _: None,
    check_interrupt: Callable[[], None] = lambda: None,
) -> Summary:
    """Write the file. Raises ConvertError, OSError; then, and when it is interrupted, no file is left.

    `progress` and `check_interrupt` are called from this thread after every piece; what they raise ends the work.
    """
    target, start = Path(target), time.monotonic()
    check_target(source, plan, target, force)
    layout = plan.layout
    with PartialFile(target) as part, Hashes(source.files if HASHES in plan.metadata else ()) as hashes:
        part.file.write(layout.head)
        done = 0
        with closing(packed_pieces(source, plan)) as pieces:
            for piece, packed in pieces:
                check_interrupt()
                part.file.write(packed.data)
                if piece.is_last:
                    part.file.write(bytes(padded(piece.tensor.nbytes, layout.alignment) - piece.tensor.nbytes))
                done += piece.source_bytes
                n_done = piece.index + piece.is_last
                progress(Progress(n_done, len(plan.tensors), done, source.nbytes, piece.tensor.name))
        _fill_in(part, plan, hashes.wait(check_interrupt))
        if part.file.seek(0, 2) != layout.nbytes:
            raise ConvertError(f"{target.name}: {part.file.tell()} bytes were written, {layout.nbytes} were planned")
        if target.exists() and not force:
            raise ConvertError(f"{target}: was made by another program in the meantime; it was left as it is")
        part.complete()
    return Summary(target, layout.nbytes, source.nbytes, time.monotonic() - start, plan.types())


def _fill_in(part: PartialFile, plan: Plan, hashes: list[str]) -> None:
    """Write the head again, with the hashes, which are as long as what stood in their place."""
    if hashes:
        part.file.seek(0)
        part.file.write(replace(plan, metadata={**plan.metadata, HASHES: hashes}).layout.head)

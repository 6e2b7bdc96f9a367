"""The bar of a conversion: share of the source, tensors, MB/s and the time left, on stderr."""

import sys
import time
from typing import TextIO

from ..convert.run import Progress
from .redrawn_line import RedrawnLine

_CELLS = 20
_REDRAW_S = 0.2


class ConversionProgress:
    """Redrawn in place on a terminal; in a pipe or a log, a line for every tenth."""

    def __init__(self, stream: TextIO | None = None):
        stream = stream or sys.stderr
        self._redraw, self._line = stream.isatty(), RedrawnLine(stream)
        self._start = time.monotonic()
        self._drawn = 0.0
        self._tenth = 0

    def show(self, at: Progress) -> None:
        """Draw, unless that was done a moment ago."""
        elapsed = time.monotonic() - self._start
        tenth = int(10 * at.source_bytes / max(at.n_source_bytes, 1))
        is_last = at.tensors == at.n_tensors
        if self._redraw and elapsed - self._drawn < _REDRAW_S and not is_last:
            return
        if not self._redraw and tenth == self._tenth:
            return
        self._drawn, self._tenth = elapsed, tenth
        line = bar(at, elapsed)
        if self._redraw:
            self._line.show(line)
        else:
            self._line.above(line)

    def finish(self) -> None:
        """Leave the last line standing."""
        self._line.leave()


def bar(at: Progress, elapsed_s: float) -> str:
    """ "[#####---------------]  25 %  210/825 tensors  52.3 MB/s  about 3 min 10 s left"."""
    share = at.source_bytes / max(at.n_source_bytes, 1)
    filled = int(share * _CELLS)
    cells = "#" * filled + "-" * (_CELLS - filled)
    rate = at.source_bytes / max(elapsed_s, 1e-9)
    left = duration((at.n_source_bytes - at.source_bytes) / rate) if rate else "unknown"
    return f"[{cells}] {share:4.0%}  {at.tensors}/{at.n_tensors} tensors  {rate / 1e6:.1f} MB/s  about {left} left"


def duration(seconds: float) -> str:
    """75 -> "1 min 15 s"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"

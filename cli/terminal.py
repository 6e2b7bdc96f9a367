"""What the user sees: messages on stderr, results on stdout, one progress line that is redrawn only on a terminal."""

import sys
import time
from typing import TextIO

from .redrawn_line import RedrawnLine, printable


def prepare_streams() -> None:
    """A console or a pipe in an encoding without Chinese must not end a run: unknown characters become `?`."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def say(text: str) -> None:
    """One line of information; on stderr, so that stdout holds results only."""
    print(printable(text), file=sys.stderr, flush=True)


def answer(text: str) -> None:
    """What the command was asked for, in words; on stdout. Words out of a file or from a server do not steer it."""
    print(printable(text))


def error(text: str) -> None:
    """The one line a failed command ends with."""
    say(f"error: {text}")


class Progress:
    """Stages with steps: redrawn in place on a terminal, a few plain lines in a pipe or a log."""

    def __init__(self, stream: TextIO | None = None):
        stream = stream or sys.stderr
        self._redraw, self._line = stream.isatty(), RedrawnLine(stream)
        self._start = time.monotonic()
        self._label = ""
        self._shown_tenth = -1

    def stage(self, label: str) -> None:
        """A new stage began."""
        if label == self._label:
            return
        self.finish()
        self._label, self._shown_tenth = label, -1
        self._write(label)

    def step(self, value: float, maximum: float) -> None:
        """The current stage is at `value` of `maximum`; in a pipe, at most ten lines per stage are written."""
        if maximum <= 1:
            return
        tenth = int(10 * value / maximum)
        if not self._redraw and tenth == self._shown_tenth:
            return
        self._shown_tenth = tenth
        self._write(f"{self._label} {value:.0f}/{maximum:.0f}")

    def finish(self) -> None:
        """Leave the current line standing."""
        self._line.leave()

    def _write(self, text: str) -> None:
        line = f"[{time.monotonic() - self._start:6.1f} s] {text}"
        if self._redraw:
            self._line.show(line)
        else:
            self._line.above(line)

"""How far a decode is: the host's progress bar, and in the node the frame and the time left."""

import time
from collections.abc import Callable

import comfy.utils

from .progress import NodeText, Pace, duration


class FrameProgress:
    """For all frames of a run; the time goes by the last pieces, and starts when the first of them does."""

    def __init__(self, total: int, node_id: str | None, clock: Callable[[], float] = time.monotonic):
        self._total = total
        self._bar = comfy.utils.ProgressBar(total, node_id=node_id)
        self._text, self._pace = NodeText(node_id, clock), Pace(clock)

    def start(self) -> None:
        """A video begins."""
        self._pace.start()

    def show(self, done: int, new: int) -> None:
        """`done` frames are there, `new` of them since the last time; may raise the host's interrupt."""
        self._pace.done(new)
        self._bar.update_absolute(done)
        left = duration(self._pace.seconds(self._total - done))
        self._text.show(f"frame {done}/{self._total}, {left} left", done == self._total)

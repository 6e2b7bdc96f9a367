"""What a batch shows on stderr: a line for each finished job, and below it, on a terminal, one that is redrawn."""

import sys
import time
from collections.abc import Callable
from typing import TextIO

from .batch_store import Job
from .conversion_progress import duration
from .redrawn_line import RedrawnLine

_REDRAW_S = 0.2


class BatchView:
    """`total` jobs, of which `done` were done before this run."""

    def __init__(
        self, total: int, done: int, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ):
        stream = stream or sys.stderr
        self._redraw, self._line = stream.isatty(), RedrawnLine(stream)
        self._clock, self._begin = clock, clock()
        self._first_run: float | None = None
        self._total, self._ended, self._ended_here = total, done, 0
        self._job: Job | None = None
        self._stage, self._drawn = "", 0.0

    def note(self, text: str) -> None:
        """Something the user should know."""
        self._line.above(text)

    def running(self, job: Job, stage: str = "", value: float = 0, maximum: float = 0) -> None:
        """A job runs, at this stage."""
        self._job = job
        self._stage = f"{stage} {value:.0f}/{maximum:.0f}" if maximum > 1 else stage
        now = self._clock()
        self._first_run = now if self._first_run is None else self._first_run
        if self._redraw and now - self._drawn >= _REDRAW_S:
            self._drawn = now
            stage = f"{self._stage}: " if self._stage else ""
            self._line.show(f"[{self.bar()}] {stage}{job.number:04d}-{job.name}")

    def ended(self, job: Job, how: str) -> None:
        """A job is done or has failed."""
        self._ended += 1
        self._ended_here += 1
        took = f" in {duration(job.run_s)}" if job.run_s is not None and job.run_s >= 1 else ""
        self._line.above(f"{job.number:04d}-{job.name}: {how}{took}   [{self.bar()}]")

    def bar(self) -> str:
        """ "3/1000, 12 s so far, about 2 h 5 min left"."""
        elapsed = self._clock() - self._begin
        left = self.left_s()
        ahead = "" if left is None else f", about {duration(left)} left"
        return f"{self._ended}/{self._total}, {duration(elapsed)} so far{ahead}"

    def left_s(self) -> float | None:
        """Seconds left, from the pace since the first job of this run began; None before one has ended."""
        if not self._ended_here:
            return None
        begin = self._begin if self._first_run is None else self._first_run  # starting a server is no pace
        return (self._clock() - begin) / self._ended_here * (self._total - self._ended)

    def finish(self) -> None:
        """Nothing is redrawn after this."""
        self._line.leave()

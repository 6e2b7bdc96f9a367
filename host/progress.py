"""What a running node shows of itself: the host's progress bar, a line of text in the node, and how long it will take.

Outside of a server, in tests and on the command line, the text goes nowhere.
"""

import sys
import time
from collections.abc import Callable

import comfy.model_management
import comfy.utils

_KEPT = 0.8  # of the weight of earlier measurements, for each new one: about the last five steps count
_MIN_INTERVAL_S = 0.1  # between two texts


def stop_if_interrupted() -> None:
    """Raise the host's InterruptProcessingException once somebody has pressed its stop button."""
    comfy.model_management.throw_exception_if_processing_interrupted()


class NodeText:
    """A line of text in one node of the graph, through the host's own message for it."""

    def __init__(self, node_id: str | None, clock: Callable[[], float] = time.monotonic):
        self._node_id = node_id
        self._clock = clock
        self._shown: float | None = None

    def show(self, text: str, is_last: bool = False) -> None:
        """Send the text; several within a moment are one, the last one excepted."""
        now = self._clock()
        if self._shown is not None and now - self._shown < _MIN_INTERVAL_S and not is_last:
            return
        self._shown = now
        server = running_server()
        if server is not None and self._node_id is not None:
            server.send_progress_text(text, self._node_id)


def running_server() -> object | None:
    """The server that this process runs, or None.

    Not imported: a process that runs it has it already, and in any other the import would load all of the host's nodes.
    """
    prompt_server = getattr(sys.modules.get("server"), "PromptServer", None)
    return getattr(prompt_server, "instance", None)


class WorkBar:
    """The host's progress bar and a line of text for work that is counted in bytes."""

    def __init__(self, node_id: str | None, clock: Callable[[], float] = time.monotonic):
        self._bar = comfy.utils.ProgressBar(1, node_id=node_id)
        self._text = NodeText(node_id, clock)
        self._clock = clock
        self._start = clock()

    def show(self, done: int, total: int) -> None:
        """`done` of `total` bytes are finished; may raise the host's interrupt."""
        self._bar.update_absolute(done, total)
        elapsed = self._clock() - self._start
        if done and elapsed > 0:
            rate = done / elapsed
            left = duration((total - done) / rate)
            self._text.show(f"{done / total:.0%}, {rate / 1e6:.1f} MB/s, {left} left", done == total)


class Pace:
    """Seconds per unit of work, smoothed; the clock runs from `start` and from each `done`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._since = clock()
        self._seconds = self._work = 0.0  # sums, older measurements with less weight

    def start(self) -> None:
        """Work begins now; what happened before, such as loading a model, does not count."""
        self._since = self._clock()

    def done(self, work: float) -> None:
        """So much work was done since `start` or the last time."""
        now = self._clock()
        self._seconds = _KEPT * self._seconds + (now - self._since)
        self._work = _KEPT * self._work + work
        self._since = now

    def seconds(self, work: float) -> float:
        """How long so much work takes, going by the last measurements; 0 before the first."""
        return self._seconds / self._work * work if self._work else 0.0


def step_text(step: int, steps: int, seconds_per_step: float, seconds_left: float, where: str = "") -> str:
    """ "step 12/40, 3.4 s per step, 1:35 left", after `where` and a comma if there is something to say.

    As long as no step was measured (0 seconds), without the times.
    """
    parts = [where] if where else []
    parts.append(f"step {step}/{steps}")
    if seconds_per_step:
        digits = 0 if seconds_per_step >= 100 else 1 if seconds_per_step >= 1 else 2
        parts += [f"{seconds_per_step:.{digits}f} s per step", f"{duration(seconds_left)} left"]
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """95 -> "1:35", 3700 -> "1:01:40"."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"

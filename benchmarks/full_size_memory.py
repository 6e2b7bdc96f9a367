"""Memory of this process: anonymous pages, which only swap could take back, apart from pages of mapped files.

On Linux from /proc/self/status (RssAnon, RssFile, VmSwap). Elsewhere psutil's USS stands for anonymous memory, which
counts mapped pages that no other process has as well, and the others are unknown.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

STATUS = Path("/proc/self/status")
MB = 1_000_000
INTERVAL_S = 0.005


@dataclass(frozen=True)
class Memory:
    """Bytes; None for what this system does not tell. `major_faults`: how often a page had to come from the disk."""

    anon: int
    file: int | None = None
    swap: int | None = None
    major_faults: int | None = None

    @classmethod
    def now(cls) -> "Memory":
        """Of this process at this moment."""
        return _of_linux() if STATUS.exists() else _of_others()


def source() -> str:
    """Where the numbers come from."""
    return f"{STATUS}: RssAnon, RssFile, VmSwap" if STATUS.exists() else "psutil: USS"


def _of_linux() -> Memory:
    import resource

    fields = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    anon, file, swap = (int(fields[name].split()[0]) * 1024 for name in ("RssAnon", "RssFile", "VmSwap"))
    return Memory(anon, file, swap, resource.getrusage(resource.RUSAGE_SELF).ru_majflt)


def _of_others() -> Memory:
    import psutil

    return Memory(psutil.Process().memory_full_info().uss)


@dataclass
class Peak:
    """The most anonymous memory while the block lasts, looked at every few milliseconds by a thread."""

    anon: int = 0
    samples: int = 0
    read: Callable[[], int] = lambda: Memory.now().anon
    _ended: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> "Peak":
        self._look()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._ended.wait(INTERVAL_S):
            self._look()

    def _look(self) -> None:
        self.anon = max(self.anon, self.read())
        self.samples += 1

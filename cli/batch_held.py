"""Results that cannot be fetched just now although their server answers: each is tried again later, not for ever.

A proxy may cut one file off again and again, or answer for a while as if it were not there; meanwhile the other jobs
go on.
"""

import time
from collections.abc import Iterable

PAUSES_S = (1.0, 2.0, 5.0, 10.0, 20.0, 20.0)  # before each further try; then the job is made again


class Held:
    """By the job's key."""

    def __init__(self) -> None:
        self._tries: dict[str, int] = {}
        self._next: dict[str, float] = {}

    def hold(self, key: str) -> bool:
        """It failed: try it later. Returns False when it has been tried often enough."""
        tries = self._tries.get(key, 0)
        if tries == len(PAUSES_S):
            self.release(key)
            return False
        self._tries[key] = tries + 1
        self._next[key] = time.monotonic() + PAUSES_S[tries]
        return True

    def release(self, key: str) -> None:
        """It is fetched, or made again."""
        self._tries.pop(key, None)
        self._next.pop(key, None)

    def due(self, keys: Iterable[str]) -> list[str]:
        """Those that may be tried now."""
        now = time.monotonic()
        return [key for key in keys if self._next.get(key, now) <= now]

    def wait_s(self, keys: Iterable[str], most_s: float) -> float:
        """How long to wait at most, so that none of these is late."""
        times = [self._next[key] for key in keys if key in self._next]
        return min([most_s, *(max(moment - time.monotonic(), 0.0) for moment in times)])

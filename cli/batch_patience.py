"""How long a batch goes on while nothing goes forward: pauses that grow, one line for each new reason, then the end.

It counts from the first fault after the last progress, so a job that runs for hours without a word uses none of it.
"""

import asyncio
import time
from collections.abc import Callable

from .errors import CliError

PAUSES_S = (0.5, 1.0, 2.0, 5.0)


class Patience:
    """`where` names the server in messages."""

    def __init__(self, limit_s: float, where: str, note: Callable[[str], None]):
        self.limit_s, self.where, self._note = limit_s, where, note
        self._since: float | None = None
        self._faults = 0
        self._said: set[str] = set()

    def progress(self) -> None:
        """Something went forward: a job of ours began, is there, has ended."""
        self._since, self._faults = None, 0
        self._said.clear()

    def fault(self, reason: Exception) -> float:
        """Something did not: says so, and returns how long to wait before the next try. Raises CliError at the end."""
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        waited = now - self._since
        text = f"{self.where}: {reason}"
        if waited >= self.limit_s:
            raise CliError(
                f"{text}; nothing went forward for {waited:.0f} s. Mend that or start the server, then run the same "
                "command again: nothing is lost"
            ) from reason
        if text not in self._said:
            self._said.add(text)
            self._note(f"{text}; trying again, for {self.limit_s - waited:.0f} s at most")
        pause = PAUSES_S[min(self._faults, len(PAUSES_S) - 1)]
        self._faults += 1
        return min(pause, max(self.limit_s - waited, 0.05))

    async def wait(self, reason: Exception, at_least_s: float = 0.0) -> None:
        """Until the next try. Raises CliError at the end."""
        await asyncio.sleep(max(self.fault(reason), at_least_s))

"""Ctrl-C in a batch: once, take back what waits and let the running job end; twice, interrupt it; thrice, leave."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Stop:
    """How often the user has asked. `poke` wakes the loop."""

    def __init__(self, say: Callable[[str], None]):
        self.count = 0
        self.poke: Callable[[], None] = lambda: None
        self._say, self._said = say, set[str]()

    def say_once(self, text: str) -> None:
        """Say it, unless it was said."""
        if text not in self._said:
            self._said.add(text)
            self._say(text)

    @contextmanager
    def watching(self, loop: asyncio.AbstractEventLoop | None) -> Iterator[None]:
        """Ctrl-C counts here while this lasts, and wakes the loop, if there is one."""

        def on_signal(_number: int, _frame: object) -> None:
            self.count += 1
            if self.count > 2:
                raise KeyboardInterrupt
            if loop is not None:
                loop.call_soon_threadsafe(self.poke)

        before = signal.signal(signal.SIGINT, on_signal)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

"""Ctrl-C in a batch: once, take back what waits and let the running job end; twice, interrupt it; thrice, leave."""

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

_LOOK_S = 0.1
T = TypeVar("T")


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

    async def unless_asked(
        self,
        work: Coroutine[Any, Any, T],
        times: int = 1,
        grace_s: float = 0.0,
        is_heard: Callable[[], bool] = lambda: False,
    ) -> T | None:
        """What `work` gives; None, and it is cancelled, if the user has asked that often and `work` goes on.

        It goes on if it has not ended within `grace_s`, nor said that it has heard it.
        """
        task, left_s = asyncio.ensure_future(work), grace_s
        try:
            while not task.done():
                if self.count >= times and not is_heard():
                    if left_s <= 0:
                        return None
                    left_s -= _LOOK_S
                await asyncio.wait({task}, timeout=_LOOK_S)
            return task.result()
        finally:
            while not task.done():  # again: a request that times out in this moment swallows it
                task.cancel()
                await asyncio.wait({task}, timeout=_LOOK_S)
            if not task.cancelled():
                task.exception()  # or it would be shown as one that nobody looked at

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

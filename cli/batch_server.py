"""Where a batch's jobs run: a server somebody else runs, waited for while it is away, or one of our own, restarted."""

import asyncio
import http.client
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from .batch_address import shown_address
from .batch_api import ForeignAnswerError, RefusedError, connected
from .batch_patience import Patience
from .batch_stop import Stop
from .client import ServerGoneError
from .errors import CliError
from .model_names import OTHER_FOLDERS
from .record import local_conditions, remote_conditions
from .server import HostServer

RESTARTS = 3  # of our own server, one after the other, without a finished job between
DEAF_S = 120.0  # a server of our own that answers nothing for this long hangs; reading a model may keep it busy
_ASK_S = 1.0


class RemoteServer:
    """A server that somebody else runs. `ready` waits until it answers, `patience_s` at most."""

    starts = 0  # by us

    def __init__(self, address: str, patience_s: float, note: Callable[[str], None]):
        self.address = address
        self.patience = Patience(patience_s, shown_address(address), note)
        self._has_answered = False

    async def ready(self, stop: Stop) -> str | None:
        """The server's address, once it answers; None: the user had enough. Raises CliError when patience ends."""
        return await stop.unless_asked(self._answering())

    async def _answering(self) -> str:
        while True:
            try:
                async with connected(self.address, "probe") as api:
                    await api.stats()
                self._has_answered = True
                return self.address
            except ServerGoneError as gone:
                if isinstance(gone, ForeignAnswerError) and not self._has_answered:
                    raise RefusedError(f"{self.patience.where}: {gone}; is it a ComfyUI server?") from gone
                await self.patience.wait(gone)

    def finished_a_job(self) -> None:
        """It works."""

    async def facts(self, stats: dict) -> dict:
        """For the records: what its own report tells."""
        return remote_conditions(stats)

    def close(self) -> None:
        """It is not ours to stop."""


class LocalServer:
    """A server of our own, started when it is first needed and again when it has died or hangs."""

    def __init__(self, make: Callable[[], HostServer], note: Callable[[str], None], patience_s: float = 600.0):
        self._make, self._note = make, note
        self._server: HostServer | None = None
        self.patience = Patience(patience_s, "the ComfyUI of this batch", note)
        self.restarts, self.starts = 0, 0

    async def ready(self, stop: Stop) -> str | None:
        """The address of the running server; None: the user had enough.

        Raises CliError with its log if it cannot be started or kept alive.
        """
        ended = "ComfyUI ended"
        if self._server is not None and self._server.is_running():
            if await stop.unless_asked(self._hears()):
                return self._address()
            ended = f"ComfyUI did not answer for {DEAF_S:.0f} s" if self._server.is_running() else ended
        if not stop.count:
            await asyncio.to_thread(self._start, ended, lambda: stop.count > 0)
        return None if stop.count else self._address()

    def _address(self) -> str:
        assert self._server is not None  # for the type checker: _start has set it
        return f"http://127.0.0.1:{self._server.port}"

    async def _hears(self) -> bool:
        """Whether it answers, sooner or later, while it lives."""
        assert self._server is not None
        deadline = time.monotonic() + DEAF_S
        while self._server.is_running() and time.monotonic() < deadline:
            try:
                async with connected(self._address(), "probe") as api:
                    await api.stats()
                return True
            except ServerGoneError:
                await asyncio.sleep(_ASK_S)
        return False

    def _start(self, ended: str, stopping: Callable[[], bool]) -> None:
        if self._server is not None:
            if self.restarts >= RESTARTS:
                raise CliError(self._server.explain(f"{ended} {self.restarts + 1} times in a row; nothing is lost"))
            self.restarts += 1
            self._note(f"{ended}; starting it again")
            self._server.stop()
        self._server = self._make()
        self.starts += 1
        self._server.start(stopping)

    def finished_a_job(self) -> None:
        """It works: restarts are counted anew."""
        self.restarts = 0

    async def facts(self, _stats: dict) -> dict:
        """For the records: its report, its process, our packages. Raises ServerGoneError."""
        assert self._server is not None
        try:
            return await asyncio.to_thread(local_conditions, self._server)
        except (OSError, http.client.HTTPException, ValueError) as failure:
            raise ServerGoneError(f"ComfyUI does not answer: {type(failure).__name__}") from failure

    def close(self) -> None:
        """Stop it."""
        if self._server is not None:
            self._server.stop()


def model_folders(models: Path | None) -> dict[str, list[Path]]:
    """The host's key -> folders, of a ComfyUI models folder: every folder in it is named by its key. Raises OSError."""
    found: dict[str, list[Path]] = {}
    for folder in sorted(models.iterdir()) if models else ():
        if folder.is_dir() and not folder.name.startswith("."):
            found.setdefault(OTHER_FOLDERS.get(folder.name, folder.name), []).append(folder)
    return found


async def missing_nodes(address: str, class_types: Iterable[str]) -> list[str]:
    """The node classes the server does not know."""
    async with connected(address, "probe") as api:
        return [name for name in sorted(class_types) if not await api.knows(name)]


async def asked(
    server: RemoteServer | LocalServer, stop: Stop, question: Callable[[str], Awaitable[None]]
) -> str | None:
    """Put a question to the server, again if it is away meanwhile: its address; None: the user had enough."""
    while (address := await server.ready(stop)) is not None:
        try:
            await question(address)
            break
        except ServerGoneError as gone:
            await stop.unless_asked(server.patience.wait(gone))
    return address

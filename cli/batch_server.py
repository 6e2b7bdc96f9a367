"""Where a batch's jobs run: a server somebody else runs, waited for while it is away, or one of our own, restarted."""

import asyncio
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from .batch_api import connected, shown_address
from .client import ServerGoneError
from .errors import CliError
from .record import local_conditions, remote_conditions
from .server import HostServer

RESTARTS = 3  # of our own server, one after the other, without a finished job between
_ASK_S = (0.5, 1.0, 2.0, 5.0)

# folders of a ComfyUI models folder -> the host's key; those of older versions too
_MODEL_KEYS = {"unet": "diffusion_models", "clip": "text_encoders"}


class RemoteServer:
    """A server that somebody else runs. `ready` waits until it answers, `patience_s` at most."""

    def __init__(self, address: str, patience_s: float, note: Callable[[str], None]):
        self.address, self.patience_s, self._note = address, patience_s, note
        self.restarts = 0

    async def ready(self, stopping: Callable[[], bool]) -> str | None:
        """The server's address, once it answers; None: the user had enough. Raises CliError when patience ends."""
        begin, tries = time.monotonic(), 0
        while True:
            try:
                async with connected(self.address, "probe") as api:
                    await api.stats()
                return self.address
            except ServerGoneError as gone:
                waited = time.monotonic() - begin
                if stopping():
                    return None
                if waited >= self.patience_s:
                    raise CliError(
                        f"{shown_address(self.address)}: {gone}; waited {waited:.0f} s. Start the server, then run the "
                        "same command again: nothing is lost"
                    ) from gone
                if tries == 1:
                    self._note(
                        f"{shown_address(self.address)}: {gone}; waiting for it, {self.patience_s:.0f} s at most"
                    )
                await asyncio.sleep(min(_ASK_S[min(tries, len(_ASK_S) - 1)], max(self.patience_s - waited, 0.05)))
                tries += 1

    def finished_a_job(self) -> None:
        """It works."""

    async def facts(self, stats: dict) -> dict:
        """For the records: what its own report tells."""
        return remote_conditions(stats)

    def close(self) -> None:
        """It is not ours to stop."""


class LocalServer:
    """A server of our own, started when it is first needed and again when it has died."""

    def __init__(self, make: Callable[[], HostServer], note: Callable[[str], None]):
        self._make, self._note = make, note
        self._server: HostServer | None = None
        self.restarts = 0

    async def ready(self, _stopping: Callable[[], bool]) -> str | None:
        """The address of the running server. Raises CliError with its log if it cannot be started or kept alive."""
        if self._server is None or not self._server.is_running():
            await asyncio.to_thread(self._start)
        assert self._server is not None  # for the type checker: _start has set it
        return f"http://127.0.0.1:{self._server.port}"

    def _start(self) -> None:
        if self._server is not None:
            if self.restarts >= RESTARTS:
                raise CliError(
                    self._server.explain(f"ComfyUI ended {self.restarts + 1} times in a row; nothing is lost")
                )
            self.restarts += 1
            self._note("ComfyUI ended; starting it again")
            self._server.stop()
        self._server = self._make()
        self._server.start()

    def finished_a_job(self) -> None:
        """It works: restarts are counted anew."""
        self.restarts = 0

    async def facts(self, _stats: dict) -> dict:
        """For the records: its report, its process, our packages."""
        assert self._server is not None
        return await asyncio.to_thread(local_conditions, self._server)

    def close(self) -> None:
        """Stop it."""
        if self._server is not None:
            self._server.stop()


def model_folders(models: Path | None) -> dict[str, list[Path]]:
    """The host's key -> folders, of a ComfyUI models folder: every folder in it is named by its key. Raises OSError."""
    found: dict[str, list[Path]] = {}
    for folder in sorted(models.iterdir()) if models else ():
        if folder.is_dir() and not folder.name.startswith("."):
            found.setdefault(_MODEL_KEYS.get(folder.name, folder.name), []).append(folder)
    return found


async def missing_nodes(address: str, class_types: Iterable[str]) -> list[str]:
    """The node classes the server does not know."""
    async with connected(address, "probe") as api:
        return [name for name in sorted(class_types) if not await api.knows(name)]

"""Fetching what jobs have made: each into its folder, or made once more, or later if its server cannot give it now."""

import asyncio
from collections import deque
from collections.abc import Callable
from pathlib import Path

from .batch_api import Api, NoSuchFileError
from .batch_collect import collect, drop_server_files
from .batch_failure import Failure
from .batch_files import wanted_files
from .batch_held import Held
from .batch_pictures import DamagedFileError
from .batch_record import Conditions
from .batch_retry import NOTHING_SAVED, Retrying
from .batch_server import LocalServer, RemoteServer
from .batch_store import Job
from .client import ServerGoneError


class Fetching(Retrying):
    """The part of the loop that follows a job's end on the server."""

    out: Path
    server: RemoteServer | LocalServer
    models: Callable[[dict], dict[str, str]]
    server_output: Path | None
    made: deque[str]
    _held: Held
    _stats: dict
    _facts: dict

    async def _collect(self, api: Api) -> None:
        """Fetch what is made."""
        while due := self._held.due(self.made):
            job = self.store.job(due[0])
            if not wanted_files(job.outputs):
                self._failed(job, NOTHING_SAVED)
            elif not await self._fetch(api, job):
                continue
            self._held.release(job.key)
            self.made.remove(job.key)

    async def _fetch(self, api: Api, job: Job) -> bool:
        """Returns False if it is to be tried later."""
        models = await asyncio.to_thread(self.models, job.workflow)
        conditions = Conditions(self._facts, models, self._stats)
        try:
            notes = await collect(api, self.store, self.out, job, conditions)
        except (NoSuchFileError, DamagedFileError) as failure:  # cached by the server, or cut off with it
            self._again(job, Failure("file", str(failure)))
            return True
        except ServerGoneError as gone:
            await api.stats()  # raises if that is it, and not this one file
            if self._held.hold(job.key):
                return False
            self._again(job, Failure("file", f"its files could not be fetched: {gone}"))
            return True
        for note in notes:
            self.view.note(f"{job.number:04d}-{job.name}: {note}")
        drop_server_files(self.server_output, job)
        self.server.finished_a_job()
        self.server.patience.progress()
        self.view.ended(job, "done")
        return True

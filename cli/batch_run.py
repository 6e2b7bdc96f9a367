"""The loop of a batch: keep a few jobs on the server, follow them, fetch what ends, find everything again after a loss.

Whatever happens, the store says where each job stands: an id is stored before it is sent, outputs before they are
fetched, "done" after the folder is complete. On every new connection the store is compared with the server's queue and
history; what the server has forgotten is looked for among its files, and only then made again.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .batch_api import Api, NoSuchFileError, RefusedError, ServerFault, connected, following
from .batch_collect import DamagedFileError, collect, drop_server_files
from .batch_failure import RETRIES, Failure, history_end, history_seconds, judge, seconds_between
from .batch_files import posted_workflow, wanted_files
from .batch_record import Conditions
from .batch_recover import recovered_outputs
from .batch_retry import NOTHING_SAVED, Retrying
from .batch_server import LocalServer, RemoteServer
from .batch_stop import Stop
from .batch_store import OPEN_STATES, Job, Store
from .batch_view import BatchView
from .client import ServerGoneError
from .errors import CliError
from .workflow import titles

LOOK_S = 30.0  # without any message for this long, queue and history are asked
SETTLE_S = 1.0  # a request that was cut off may still be on its way


class Runner(Retrying):
    """One batch on one server."""

    def __init__(
        self,
        store: Store,
        out: Path,
        server: RemoteServer | LocalServer,
        view: BatchView,
        stop: Stop,
        ahead: int,
        models: Callable[[dict], dict[str, str]] = lambda workflow: {},
        server_output: Path | None = None,
    ):
        self.store, self.out, self.server, self.view, self.stop = store, out, server, view, stop
        self.ahead, self.models, self.server_output = ahead, models, server_output
        self.waiting: deque[str] = deque()
        self.made: deque[str] = deque()
        self.queued: dict[str, Job] = {}  # prompt id -> job
        self._seen: dict[
            str, dict[str, Any]
        ] = {}  # prompt id -> {"start", "outputs"}, of runs followed from their start
        self._running: str | None = None
        self._was_connected = False
        self._wound_down = 0  # how often the user had asked when the queue was last cleared
        self._stats: dict = {}
        self._facts: dict = {}
        self._faults: Counter[str] = Counter()

    async def run(self) -> None:
        """Until every job is done or failed, or the user stops it. Raises CliError for what ends the whole batch."""
        while self.store.keys(*OPEN_STATES) and not self.stop.count:
            address = await self.server.ready(lambda: self.stop.count > 0)
            if address is None:
                return
            try:
                async with connected(address, self.store.client_id) as api, following(api) as events:
                    self.stop.poke = lambda queue=events: queue.put_nowait({"type": "stop"})
                    self._stats = await api.stats()
                    self._facts = await self.server.facts(self._stats)
                    await self._work(api, events)
            except ServerGoneError as gone:
                self.view.note(str(gone))
                await asyncio.sleep(SETTLE_S)
            finally:
                self.stop.poke = lambda: None

    async def _work(self, api: Api, events: asyncio.Queue) -> None:
        self._seen.clear()
        self._wound_down = 0
        await self._compare(api)
        while True:
            await self._collect(api)
            if self.stop.count:
                if not await self._wind_down(api):
                    return
            else:
                await self._fill(api)
                if not self.queued and not self.waiting and not self.made:
                    return
            if not self.made:
                await self._handle(api, await _next(events))

    async def _compare(self, api: Api) -> None:
        """Bring the store and this object to what the server knows."""
        jobs = [self.store.job(key) for key in self.store.keys("queued")]
        self.queued = {job.prompt_id: job for job in jobs if job.prompt_id}
        running, pending = await api.queue()  # before the history: what leaves the queue meanwhile is found there
        ours = sorted(self.queued.items(), key=lambda item: item[1].queued_s or 0.0)
        # servers run jobs in order: the first one that is lost is the one the server ended with
        suspect = self._was_connected and not any(prompt_id in self.queued for prompt_id in running)
        for number, (prompt_id, job) in enumerate(ours):
            if prompt_id in running or prompt_id in pending:
                continue
            entry = await api.history(prompt_id)
            if entry is not None:
                await self._ended(api, prompt_id, *history_end(entry), entry=entry)
                continue
            outputs = await recovered_outputs(api, job, [other for _, other in ours[number + 1 :]])
            del self.queued[prompt_id]
            if outputs is not None:
                self.store.made(job.key, outputs)
            elif suspect:
                suspect = False
                self._again(job, Failure("server", "the server ended while it worked on this job"))
            else:
                self.store.again(job.key, counts=False)
        self._was_connected = True
        self._running = next((prompt_id for prompt_id in running if prompt_id in self.queued), None)
        self.waiting = deque(self.store.keys("waiting"))
        self.made = deque(self.store.keys("made"))

    async def _fill(self, api: Api) -> None:
        while len(self.queued) < self.ahead and self.waiting:
            job = self.store.job(self.waiting[0])
            prompt_id = self.store.queue(job.key)
            self.waiting.popleft()
            self.queued[prompt_id] = job
            try:
                await api.post(posted_workflow(job.workflow, job.key, job.attempt), prompt_id)
            except RefusedError as refused:
                del self.queued[prompt_id]
                self._failed(job, str(refused))
            except ServerFault as fault:
                self._faults[job.key] += 1
                if self._faults[job.key] <= RETRIES["server"]:
                    raise
                del self.queued[prompt_id]
                self._failed(job, str(fault))

    async def _handle(self, api: Api, event: dict | None) -> None:
        if event is None:
            raise ServerGoneError("the connection to ComfyUI ended")
        kind, data = event.get("type"), event.get("data") or {}
        if kind == "quiet":
            await self._compare(api)
            return
        prompt_id = data.get("prompt_id") if isinstance(data, dict) else None
        if prompt_id not in self.queued:
            return
        job = self.queued[prompt_id]
        if kind == "execution_start":
            self._running = prompt_id
            self._seen[prompt_id] = {"start": data.get("timestamp"), "outputs": {}}
            self.view.running(job)
        elif kind == "executed" and data.get("output") and prompt_id in self._seen:
            self._seen[prompt_id]["outputs"][data["node"]] = data["output"]
        elif kind == "progress_state":
            self._show(job, data.get("nodes") or {})
        elif kind in ("execution_success", "execution_error", "execution_interrupted"):
            await self._ended(api, prompt_id, kind.removeprefix("execution_"), data)

    def _show(self, job: Job, nodes: dict) -> None:
        names = titles(job.workflow)
        for node, state in nodes.items():
            if state.get("state") == "running":
                self.view.running(job, names.get(node, node), state.get("value", 0), state.get("max", 0))

    async def _ended(self, api: Api, prompt_id: str, how: str, data: dict, entry: dict | None = None) -> None:
        """A job has left the server's queue, seen live or found in its history."""
        job = self.queued[prompt_id]
        seen = self._seen.pop(prompt_id, None)
        if how == "success":
            if entry is None and seen is None:
                entry = await _history(api, prompt_id)
            outputs = entry.get("outputs", {}) if entry is not None else seen["outputs"]
            run_s = history_seconds(entry) if entry else seconds_between(seen["start"], data.get("timestamp"))
            self.store.made(job.key, outputs, run_s)
            self.made.append(job.key)
        elif how == "interrupted" and self.stop.count > 1:
            self.store.again(job.key, counts=False)
        elif how == "interrupted":
            self._failed(job, "the run was interrupted in ComfyUI")
        else:
            await self._judge(api, job, judge(data))
        self.queued.pop(prompt_id, None)
        self._running = None if self._running == prompt_id else self._running

    async def _judge(self, api: Api, job: Job, failure: Failure) -> None:
        if failure.kind == "disk":
            self.store.again(job.key, counts=False)
            raise CliError(
                f"{failure.text}; nothing is lost: free space on the server's disk, run the same command again"
            )
        if failure.kind == "memory" and job.retries < RETRIES["memory"]:
            await api.free()
        self._again(job, failure)

    async def _collect(self, api: Api) -> None:
        """Fetch what is made."""
        while self.made:
            job = self.store.job(self.made[0])
            if not wanted_files(job.outputs):
                self._failed(job, NOTHING_SAVED)
            else:
                await self._fetch(api, job)
            self.made.popleft()

    async def _fetch(self, api: Api, job: Job) -> None:
        models = await asyncio.to_thread(self.models, job.workflow)
        conditions = Conditions(self._facts, models, self._stats)
        try:
            await collect(api, self.store, self.out, job, conditions)
        except (NoSuchFileError, DamagedFileError) as failure:  # cached by the server, or cut off with it
            self._again(job, Failure("file", str(failure)))
            return
        drop_server_files(self.server_output, job)
        self.server.finished_a_job()
        self.view.ended(job, "done")

    async def _wind_down(self, api: Api) -> bool:
        """Take back what waits; what runs may end, unless the user asked twice. Returns whether something runs."""
        if self._wound_down == self.stop.count:
            return bool(self.queued)
        self._wound_down = self.stop.count
        waiting = [prompt_id for prompt_id in self.queued if prompt_id != self._running]
        if waiting:
            await api.withdraw(waiting)
        running, pending = await api.queue()
        for prompt_id in waiting:
            if prompt_id not in running and prompt_id not in pending and await api.history(prompt_id) is None:
                self.store.withdrawn(self.queued.pop(prompt_id).key)
        ours = [prompt_id for prompt_id in running if prompt_id in self.queued]
        if self.stop.count > 1:
            for prompt_id in ours:
                await api.interrupt(prompt_id)
        elif ours:
            self.stop.say_once("finishing the job that runs; Ctrl-C again interrupts it")
        return bool(self.queued)


async def _next(events: asyncio.Queue) -> dict | None:
    try:
        return await asyncio.wait_for(events.get(), LOOK_S)
    except (TimeoutError, asyncio.TimeoutError):  # one from Python 3.11
        return {"type": "quiet"}


async def _history(api: Api, prompt_id: str) -> dict:
    """The entry appears a moment after the success message."""
    for _ in range(100):
        entry = await api.history(prompt_id)
        if entry is not None:
            return entry
        await asyncio.sleep(0.1)
    raise ServerGoneError("ComfyUI has no record of the finished run")

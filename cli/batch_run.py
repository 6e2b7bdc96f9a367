"""The loop of a batch: keep a few jobs on the server, follow them, fetch what ends, find everything again after a loss.

Whatever happens, the store says where each job stands: an id is stored before it is sent, outputs before they are
fetched, "done" after the folder is complete. On every new connection the store is compared with the server's queue and
history; what the server has forgotten is looked for among its files, and only then made again.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from .batch_api import Api, RefusedError, ServerFault, connected
from .batch_events import following, next_event
from .batch_failure import RETRIES, Failure, history_end, history_seconds, judge, seconds_between
from .batch_fetch import Fetching
from .batch_files import posted_workflow
from .batch_held import Held
from .batch_recover import recovered_outputs
from .batch_server import LocalServer, RemoteServer
from .batch_stop import Stop
from .batch_store import OPEN_STATES, Job, Store
from .batch_view import BatchView
from .client import ServerGoneError
from .errors import CliError
from .workflow import titles

LOOK_S = 30.0  # without any message for this long, queue and history are asked
SETTLE_S = 1.0  # a request that was cut off may still be on its way
_REST_S = 0.1  # for the last messages of a connection that has ended
LEAVE_S = 20.0  # for the server to hear that the user has had enough


class Runner(Fetching):
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
        self._starts = 0  # of our own server, at the last look
        self._wound_down = 0  # how often the user had asked when the queue was last cleared
        self._stats: dict = {}
        self._facts: dict = {}
        self._faults: Counter[str] = Counter()
        self._held = Held()

    async def run(self) -> None:
        """Until every job is done or failed, or the user stops it. Raises CliError for what ends the whole batch."""
        while self.store.keys(*OPEN_STATES) and not self.stop.count:
            address = await self.server.ready(self.stop)
            if address is None:
                return
            try:
                async with AsyncExitStack() as stack:
                    opened = await self.stop.unless_asked(self._open(stack, address))
                    if opened is not None:
                        await self.stop.unless_asked(self._work(*opened), 2, LEAVE_S / 2, self._has_heard_twice)
            except ServerGoneError as gone:
                await self.stop.unless_asked(self.server.patience.wait(gone, SETTLE_S))
            finally:
                self.stop.poke = lambda: None
        if self.stop.count > 1 and self._running in self.queued:  # nobody could say whether it was interrupted
            self.store.again(self.queued[self._running].key, counts=False)

    async def _open(self, stack: AsyncExitStack, address: str) -> tuple[Api, asyncio.Queue]:
        api = await stack.enter_async_context(connected(address, self.store.client_id))
        events = await stack.enter_async_context(following(api))
        self._stats = await api.stats()
        self._facts = await self.server.facts(self._stats)
        self.stop.poke = lambda: events.put_nowait({"type": "stop"})
        return api, events

    def _has_heard_twice(self) -> bool:
        return self._wound_down > 1

    async def _work(self, api: Api, events: asyncio.Queue) -> None:
        try:
            await self._go_on(api, events)
        except ServerGoneError:
            for _ in range(events.qsize() + 1):  # what it said before its end, while we were busy
                event = await next_event(events, _REST_S) or {}
                if event.get("type") == "execution_start":
                    self._running = self._ours(event) or self._running
            raise

    def _ours(self, event: dict) -> str | None:
        """The prompt id of the job of ours that an event speaks of."""
        data = event.get("data")
        prompt_id = data.get("prompt_id") if isinstance(data, dict) else None
        return prompt_id if isinstance(prompt_id, str) and prompt_id in self.queued else None

    async def _go_on(self, api: Api, events: asyncio.Queue) -> None:
        self._seen.clear()
        self._wound_down = 0
        await self._compare(api)
        while True:
            await self._collect(api)
            if self.stop.count:
                if not await self._hear(api):
                    return
            else:
                await self._fill(api)
                if not self.queued and not self.waiting and not self.made:
                    return
            if not self._held.due(self.made):
                await self._handle(api, await next_event(events, self._held.wait_s(self.made, LOOK_S)))

    async def _compare(self, api: Api) -> bool:
        """Bring the store and this object to what the server knows. Returns whether our jobs are gone from there."""
        jobs = [self.store.job(key) for key in self.store.keys("queued")]
        self.queued = {job.prompt_id: job for job in jobs if job.prompt_id}
        running, pending = await api.queue()  # before the history: what leaves the queue meanwhile is found there
        ours = sorted(self.queued.items(), key=lambda item: item[1].queued_s or 0.0)
        suspect, found, lost = self._suspect([prompt_id for prompt_id, _ in ours], running), 0, 0
        for number, (prompt_id, job) in enumerate(ours):
            if prompt_id in running or prompt_id in pending:
                found += 1
                continue
            entry = await api.history(prompt_id)
            if entry is not None:
                await self._ended(api, prompt_id, *history_end(entry), entry=entry)
                found += 1
                continue
            outputs = await recovered_outputs(api, job, [other for _, other in ours[number + 1 :]])
            del self.queued[prompt_id]
            if outputs is not None:
                self.store.made(job.key, outputs)
                found += 1
            elif prompt_id == suspect:
                self._again(job, Failure("server", "the server ended while it worked on this job"))
            else:
                self.store.again(job.key, counts=False)
                lost += 1
        if found:
            self.server.patience.progress()
        self._was_connected = True
        self._running = next((prompt_id for prompt_id in running if prompt_id in self.queued), None)
        self.waiting = deque(self.store.keys("waiting"))
        self.made = deque(self.store.keys("made"))
        return lost > 0 and not found

    def _suspect(self, ours: list[str], running: list[str]) -> str | None:
        """Whom to blame if it is lost: a job that was seen to run. (Our own server runs only ours, in order.)"""
        has_ended, self._starts = 0 < self._starts < self.server.starts, self.server.starts
        if self._running in ours or not has_ended:
            return self._running
        return None if any(prompt_id in ours for prompt_id in running) else next(iter(ours), None)

    async def _fill(self, api: Api) -> None:
        while len(self.queued) < self.ahead and self.waiting:
            job = self.store.job(self.waiting[0])
            prompt_id = self.store.queue(job.key)
            self.waiting.popleft()
            self.queued[prompt_id] = job
            try:
                await api.post(posted_workflow(job), prompt_id)
            except RefusedError as refused:
                self.server.patience.progress()
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
        kind, prompt_id = event.get("type"), self._ours(event)
        if kind == "quiet":
            if await self._compare(api):
                self.server.patience.fault(ServerGoneError("the jobs it was given are not in its queue any more"))
            return
        if prompt_id is None:
            return
        self.server.patience.progress()
        job, data = self.queued[prompt_id], event["data"]
        if kind == "execution_start":
            self._running = prompt_id
            self._seen[prompt_id] = {"start": data.get("timestamp"), "outputs": {}}
            self.view.running(job)
        elif kind == "executed" and isinstance(data.get("output"), dict) and prompt_id in self._seen:
            self._seen[prompt_id]["outputs"][str(data.get("node"))] = data["output"]
        elif kind == "progress_state" and isinstance(data.get("nodes"), dict):
            self._show(job, data["nodes"])
        elif kind in ("execution_success", "execution_error", "execution_interrupted"):
            await self._ended(api, prompt_id, kind.removeprefix("execution_"), data)

    def _show(self, job: Job, nodes: dict) -> None:
        names = titles(job.workflow)
        for node, state in nodes.items():
            if isinstance(state, dict) and state.get("state") == "running":
                value, maximum = (state.get(name) for name in ("value", "max"))
                is_known = isinstance(value, int | float) and isinstance(maximum, int | float)
                self.view.running(job, names.get(node, node), *((value, maximum) if is_known else ()))

    async def _ended(self, api: Api, prompt_id: str, how: str, data: dict, entry: dict | None = None) -> None:
        """A job has left the server's queue, seen live or found in its history."""
        job = self.queued[prompt_id]
        seen = self._seen.pop(prompt_id, None)
        if how == "success":
            if entry is None and seen is None:
                entry = await api.new_history(prompt_id)
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
            if not self._was_connected:  # it was full before this command began: there may be room now
                return
            raise CliError(
                f"{failure.text}; nothing is lost: free space on the server's disk, run the same command again"
            )
        if failure.kind == "memory" and job.retries < RETRIES["memory"]:
            await api.free()
        self._again(job, failure)

    async def _hear(self, api: Api) -> bool:
        """The user has had enough: a server that does not listen does not keep us. Returns whether something runs."""
        try:
            return await asyncio.wait_for(self._wind_down(api), LEAVE_S)
        except (TimeoutError, asyncio.TimeoutError):  # one from Python 3.11
            raise ServerGoneError(f"ComfyUI did not answer for {LEAVE_S:.0f} s") from None

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

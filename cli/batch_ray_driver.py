"""The driver of a batch on a Ray cluster: it hands the store's jobs to actors and writes what comes back.

Ray places the actors, notices lost nodes and starts actors again where there is room. A job whose actor was lost is
given to the next one that is free: Ray's own retry would have it wait for that actor, whose node may never come back.
An actor has one job at a time, so nothing is queued where it could be lost.
"""

import argparse
import shutil
import time
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any

from .batch_collect import disk_error
from .batch_failure import Failure
from .batch_files import partial_folder, place_folder, posted_workflow, publish, wanted_files
from .batch_inputs import keep_inputs
from .batch_pictures import DamagedFileError
from .batch_ray_actors import Member, places, start_members
from .batch_record import Conditions, finish_folder
from .batch_retry import NOTHING_SAVED, Retrying
from .batch_server import RESTARTS
from .batch_stop import Stop
from .batch_store import Job, Store
from .batch_view import BatchView
from .errors import CliError
from .paths import ROOT
from .workflow import class_types

_WAIT_S = 1.0


class Driver(Retrying):
    """Hands jobs to actors that are free."""

    def __init__(
        self, ray: Any, store: Store, options: argparse.Namespace, host_dir: Path, view: BatchView, stop: Stop
    ):
        self.ray, self.store, self.out, self.view, self.stop = ray, store, options.out, view, stop
        self.patience_s = options.patience
        for key in store.keys("queued", "made"):  # their servers ended with the driver that had them
            store.again(key, counts=False)
        self.waiting = deque(store.keys("waiting"))
        self._types = sorted(set().union(*(class_types(store.job(key).workflow) for key in self.waiting)))
        self._failed_on: dict[str, Member] = {}  # job's key -> who failed at it last
        # what an actor was asked -> (the actor, its job; None: whether its server runs)
        self._pending: dict[Any, tuple[Member, Job | None]] = {}
        self._idle: list[Member] = []
        wanted = places(ray.nodes(), options.workers)
        folders = [str(path) if path else None for path in (options.models, options.input)]
        for member in start_members(ray, wanted, [str(ROOT), str(host_dir), *folders]):
            self._ask_ready(member)
        view.note(f"Ray starts a ComfyUI for each worker; workers: {wanted.count}")
        self._alive_at = time.monotonic()

    def run(self) -> None:
        """Until every job is done or failed; after Ctrl-C, until the running ones are."""
        while self._busy() or (self.waiting and not self.stop.count):
            if not self.stop.count:
                self._hand_out()
            else:
                self.stop.say_once("finishing the jobs that run; Ctrl-C again interrupts them")
            ended, _ = self.ray.wait(list(self._pending), timeout=_WAIT_S)
            for reference in ended:
                self._take(reference)
            if self.stop.count > 1:
                self._put_back()
                return
            self._check_patience()

    def _busy(self) -> bool:
        return any(job is not None for _, job in self._pending.values())

    def _check_patience(self) -> None:
        """Without any actor for too long, it ends: nothing is lost."""
        if self._busy() or self._idle:
            self._alive_at = time.monotonic()
        elif time.monotonic() - self._alive_at > self.patience_s:
            raise CliError(
                f"no worker of the Ray cluster was ready for {self.patience_s:.0f} s; nothing is lost: see with "
                ".venv/bin/ray status what it waits for, mend that, then run the same command again"
            )

    def _ask_ready(self, member: Member) -> None:
        # waits in Ray for as long as the actor has no place
        reference = member.actor.ready.options(max_task_retries=-1).remote(self._types)
        self._pending[reference] = (member, None)

    def _hand_out(self) -> None:
        for member in list(self._idle):
            key = self._next_for(member)
            if key is not None:
                self.waiting.remove(key)
                self._idle.remove(member)
                self._give(member, self.store.job(key))

    def _next_for(self, member: Member) -> str | None:
        """The first job that waits; one this actor has just failed at is left to the others, if any is alive."""
        is_alone = not any(job is not None and other is not member for other, job in self._pending.values())
        is_alone = is_alone and self._idle == [member]
        return next((key for key in self.waiting if is_alone or self._failed_on.get(key) is not member), None)

    def _give(self, member: Member, job: Job) -> None:
        self.store.queue(job.key)
        reference = member.actor.run.remote(posted_workflow(job))
        self._pending[reference] = (member, job)
        self.view.running(job)

    def _take(self, reference: Any) -> None:
        member, job = self._pending.pop(reference)
        try:
            answer = self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as failure:  # the worker's own exception
            cause = str(getattr(failure, "cause", None) or failure)
            if job is None:
                self._drop(member, cause)
            else:
                self._fault(member, job, f"its worker failed: {cause}")
        except self.ray.exceptions.RayError as lost:
            if job is None and isinstance(lost, self.ray.exceptions.ActorDiedError):
                self._drop(member, str(lost))  # it could not be made at all
                return
            if job is not None:
                self._again(job, Failure("server", "its node or worker was lost"))
            self._ask_ready(member)
        else:
            self._answered(member, job, answer)

    def _answered(self, member: Member, job: Job | None, answer: Any) -> None:
        if job is None:
            if answer:
                self._drop(member, f"its ComfyUI lacks the nodes {', '.join(answer)}; install their pack there")
            else:
                self._idle.append(member)
        elif "gone" in answer:
            self._fault(member, job, answer["gone"])
        else:
            self._settle(member, job, answer)

    def _fault(self, member: Member, job: Job, why: str) -> None:
        """It must not eat one job after the other: its server is started again first, and not for ever."""
        self._failed_on[job.key] = member
        self._again(job, Failure("server", why))
        member.faults += 1
        if member.faults > RESTARTS:
            self._drop(member, f"it failed {member.faults} times in a row")
        else:
            self._ask_ready(member)

    def _drop(self, member: Member, why: str) -> None:
        """Go on without a worker; what it reserved is free for others."""
        self.ray.kill(member.actor)
        self.view.note(f"a worker of the Ray cluster is left out: {why}")
        if self.waiting and not self._pending and not self._idle:
            raise CliError(
                "no worker of the Ray cluster is left: the reasons are in the lines above; nothing is lost: mend that, "
                "then run the same command again"
            )

    def _settle(self, member: Member, job: Job, answer: dict) -> None:
        """ComfyUI has ended the job, well or not."""
        failure = Failure(**made["failure"]) if (made := answer.get("made")) and made["failure"] else None
        if failure is not None and failure.kind == "disk":
            self.store.again(job.key, counts=False)
            self.waiting.appendleft(job.key)
            self._drop(member, failure.text)
            return
        self._idle.append(member)
        member.faults = 0
        if "refused" in answer:
            self._failed(job, answer["refused"])
        elif failure is not None:
            self._again(job, failure)
        elif not answer["made"]["contents"]:
            self._failed(job, NOTHING_SAVED)
        else:
            try:
                self._write(job, answer)
            except DamagedFileError as damage:
                self._again(job, Failure("file", f"a file of it is damaged: {damage}"))

    def _write(self, job: Job, answer: dict) -> None:
        """The job's folder, from what came back."""
        made = answer["made"]
        self.store.made(job.key, made["outputs"], made["run_s"])
        job = replace(job, outputs=made["outputs"], run_s=made["run_s"])
        conditions = Conditions(answer["facts"], answer["models"], made["stats"])
        targets = [place_folder(self.out, number, name) for number, name in self.store.places(job.key)]
        try:
            partial = partial_folder(self.out, job.key)
            try:
                for file in (files := wanted_files(job.outputs)):
                    (partial / file.path).parent.mkdir(exist_ok=True)
                    (partial / file.path).write_bytes(made["contents"][file.path])
                inputs = keep_inputs(partial, made["inputs"])
                notes = finish_folder(partial, job, files, conditions, inputs)
                publish(partial, job.key, targets)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
        except OSError as failure:
            raise disk_error(self.out, failure) from failure
        self.store.done(job.key)
        for note in notes:
            self.view.note(f"{job.number:04d}-{job.name}: {note}")
        self.view.ended(job, "done")

    def _put_back(self) -> None:
        for _, job in self._pending.values():
            if job is not None:
                self.store.again(job.key, counts=False)

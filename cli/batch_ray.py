"""A batch on a Ray cluster: one actor for each GPU owns one ComfyUI; the store stays here, with the driver.

Ray places the actors, notices lost nodes and starts actors again where there is room. A job whose actor was lost is
given to the next one that is free: it must not wait for a node that may never come back. An actor has one job at a
time, so nothing is queued where it could be lost.
"""

import argparse
import shutil
import time
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import batch_ray_worker
from .batch_collect import disk_error
from .batch_failure import RETRIES, Failure
from .batch_files import partial_folder, place_folder, posted_workflow, publish, wanted_files
from .batch_record import Conditions, finish_folder
from .batch_stop import Stop
from .batch_store import OPEN_STATES, Job, Store
from .batch_view import BatchView
from .errors import CliError
from .paths import ROOT
from .workflow import class_types

_WAIT_S = 1.0


def run_on_ray(store: Store, options: argparse.Namespace, host_dir: Path, view: BatchView, stop: Stop) -> None:
    """Run the store's jobs on the cluster at options.ray. Raises CliError."""
    if not store.keys(*OPEN_STATES):
        return
    try:
        import ray
    except ImportError:
        raise CliError(
            "--ray needs the package ray, which is not installed; install it into .venv on every node: pip install ray"
        ) from None
    try:
        ray.init(address=options.ray, log_to_driver=False, logging_level="error")
    except (ConnectionError, ValueError, RuntimeError) as failure:
        raise CliError(f"there is no Ray cluster at {options.ray}: {failure}") from failure
    try:
        with stop.watching(None):
            Driver(ray, store, options, host_dir, view, stop).run()
    finally:
        ray.shutdown()


class Driver:
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
        self._pending: dict[
            Any, tuple[Any, Job | None]
        ] = {}  # what an actor was asked -> (actor, its job; None: ready)
        arguments = [
            str(ROOT),
            str(host_dir),
            *(str(path) if path else None for path in (options.models, options.input)),
        ]
        for actor in start_actors(ray, options.workers, arguments):
            self._ask_ready(actor)
        self._idle: list[Any] = []
        self._alive_at = time.monotonic()

    def run(self) -> None:
        """Until every job is done or failed; after Ctrl-C, until the running ones are."""
        while self._busy() or (self.waiting and not self.stop.count):
            while self._idle and self.waiting and not self.stop.count:
                self._give(self._idle.pop(), self.store.job(self.waiting.popleft()))
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
                f"no worker of the Ray cluster was ready for {self.patience_s:.0f} s; nothing is lost: mend that, then "
                "run the same command again"
            )

    def _ask_ready(self, actor: Any) -> None:
        # waits in Ray for as long as the actor has no place
        self._pending[actor.ready.options(max_task_retries=-1).remote(self._types)] = (actor, None)

    def _give(self, actor: Any, job: Job) -> None:
        self.store.queue(job.key)
        reference = actor.run.remote(posted_workflow(job.workflow, job.key, job.attempt))
        self._pending[reference] = (actor, job)
        self.view.running(job)

    def _take(self, reference: Any) -> None:
        actor, job = self._pending.pop(reference)
        try:
            answer = self.ray.get(reference)
        except self.ray.exceptions.RayActorError as lost:
            if job is not None:
                self._again(job, Failure("server", "its node or worker was lost"))
            if job is None and isinstance(lost, self.ray.exceptions.ActorDiedError):
                self._drop(str(lost))  # it could not be made at all
            else:
                self._ask_ready(actor)
        except self.ray.exceptions.RayTaskError as failure:
            cause = str(getattr(failure, "cause", None) or failure)
            if job is not None:
                raise CliError(f"a worker failed: {cause}") from failure
            self._drop(cause)
        else:
            self._idle.append(actor)
            if job is not None:
                self._settle(job, answer)
            elif answer:
                raise CliError(f"ComfyUI on the cluster lacks the nodes {', '.join(answer)}; install their pack there")

    def _drop(self, why: str) -> None:
        """Go on without a worker that cannot start."""
        self.view.note(f"a worker of the Ray cluster cannot start and is left out: {why}")
        if not self._pending and not self._idle:
            raise CliError(
                "no worker of the Ray cluster can start: the reasons are in the lines above; nothing is lost"
            )

    def _settle(self, job: Job, answer: dict) -> None:
        if "refused" in answer:
            self._failed(job, answer["refused"])
        elif "gone" in answer:
            self._again(job, Failure("server", answer["gone"]))
        elif answer["made"]["failure"] is not None:
            self._judge(job, Failure(**answer["made"]["failure"]))
        elif not answer["made"]["contents"]:
            self._failed(job, "it ended well, but saved no files; the workflow needs a saving node")
        else:
            self._write(job, answer)

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
                for path, content in made["contents"].items():
                    (partial / path).parent.mkdir(exist_ok=True)
                    (partial / path).write_bytes(content)
                finish_folder(partial, job, wanted_files(job.outputs), conditions)
                publish(partial, job.key, targets)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
        except OSError as failure:
            raise disk_error(self.out, failure) from failure
        self.store.done(job.key)
        self.view.ended(job, "done")

    def _judge(self, job: Job, failure: Failure) -> None:
        if failure.kind == "disk":
            self.store.again(job.key, counts=False)
            raise CliError(f"{failure.text}; nothing is lost: free space on that node, run the same command again")
        self._again(job, failure)

    def _again(self, job: Job, failure: Failure) -> None:
        if job.retries >= RETRIES[failure.kind]:
            self._failed(job, failure.text + (f" (tried {job.retries + 1} times)" if job.retries else ""))
            return
        self.store.again(job.key, counts=True)
        self.waiting.appendleft(job.key)
        self.view.note(f"{job.number:04d}-{job.name}: {failure.text}; trying again")

    def _failed(self, job: Job, error: str) -> None:
        self.store.failed(job.key, error)
        self.view.ended(job, f"failed: {error}")

    def _put_back(self) -> None:
        for _, job in self._pending.values():
            if job is not None:
                self.store.again(job.key, counts=False)


def start_actors(ray: Any, workers: int | None, arguments: list[str | None]) -> list[Any]:
    """One actor for each GPU, else for each node; Ray starts an actor again elsewhere when its node is lost."""
    n_gpus = int(ray.cluster_resources().get("GPU", 0))
    n_nodes = sum(bool(node["Alive"]) for node in ray.nodes())
    ray.cloudpickle.register_pickle_by_value(batch_ray_worker)
    made = ray.remote(batch_ray_worker.Worker).options(
        num_gpus=1 if n_gpus else 0, num_cpus=1, max_restarts=-1, max_task_retries=0, scheduling_strategy="SPREAD"
    )
    return [made.remote(*arguments) for _ in range(workers or n_gpus or max(n_nodes, 1))]

"""A Ray cluster of several nodes on this machine, and a batch on it with a node killed in its middle."""

import argparse
import io
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from wan_gguf.cli.batch_ray import run_on_ray
from wan_gguf.cli.batch_ray_driver import Driver
from wan_gguf.cli.batch_stop import Stop
from wan_gguf.cli.batch_store import opened_store
from wan_gguf.cli.batch_view import BatchView

ENVIRONMENT = {
    "RAY_worker_niceness": "0",  # its workers would starve beside other work of this machine
    "RAY_USAGE_STATS_ENABLED": "0",  # no network
}
STARTS = 3


@contextmanager
def running_cluster(*nodes: dict) -> Iterator:
    """A head without room for workers, and nodes with these arguments (num_cpus, num_gpus)."""
    import ray

    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        made = started(nodes)
        try:
            yield made
        finally:
            ray.shutdown()
            made.shutdown()


def started(nodes: tuple[dict, ...]):
    """The cluster; Ray fixes how long a node may take to start (15 and 30 s): tried again where that is too short."""
    from ray.cluster_utils import Cluster

    for number in range(STARTS):
        made = Cluster()
        try:
            made.add_node(num_cpus=0, include_dashboard=False)  # the first one is the head
            for node in nodes:
                made.add_node(wait=False, **node)
            made.wait_for_nodes(120)
            return made
        except Exception:  # Ray raises just that
            made.shutdown()
            if number + 1 == STARTS:
                raise
    raise AssertionError("not reached")


def node_of(actor) -> str:
    """The node that an idle actor is on."""
    import ray

    return ray.get(actor.__ray_call__.remote(lambda _worker: ray.get_runtime_context().get_node_id()))


def cut_power(cluster, node_id: str) -> None:
    """Kill every process of a node at once, ComfyUI too."""
    node = next(node for node in cluster.worker_nodes if node.node_id == node_id)
    kill_processes(node)
    cluster.remove_node(node, allow_graceful=False)


def kill_processes(node) -> None:
    """All of a node's, and what they have started."""
    ours = [psutil.Process(info.process.pid) for infos in node.all_processes.values() for info in infos]
    ours += [child for process in ours for child in process.children(recursive=True)]
    for process in ours:
        with suppress(psutil.NoSuchProcess):
            process.kill()


class Loss:
    """Cuts the power of the node that has just been given the n-th job, so that one is lost for certain."""

    def __init__(self, cluster, monkeypatch, at_job: int):
        self.given, self.done_before = 0, -1
        give = Driver._give

        def give_and_cut(driver: Driver, member, job) -> None:
            self.given += 1
            node_id = node_of(member.actor) if self.given == at_job else None
            give(driver, member, job)
            if node_id is not None:
                self.done_before = driver.store.counts()["done"]
                cut_power(cluster, node_id)

        monkeypatch.setattr(Driver, "_give", give_and_cut)


def run_batch(address: str, host: Path, out: Path, jobs: list, workers: int | None = None) -> str:
    """The whole batch; returns what it showed. Every job is done at its end."""
    shown = io.StringIO()
    options = argparse.Namespace(ray=address, out=out, workers=workers, models=None, input=None, patience=600.0)
    with opened_store(out) as store:
        store.sync(jobs)
        view = BatchView(len(jobs), 0, shown)
        run_on_ray(store, options, host, view, Stop(view.note))
        assert store.counts() == {"waiting": 0, "queued": 0, "made": 0, "done": len(jobs), "failed": 0}, (
            shown.getvalue()
        )
    return shown.getvalue()

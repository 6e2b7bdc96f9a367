"""The actors of a batch on a Ray cluster: how many, what each reserves, and what the driver remembers of each."""

from dataclasses import dataclass
from typing import Any

from . import batch_ray_worker


@dataclass(frozen=True)
class Places:
    """How many actors, and what Ray reserves for each."""

    count: int
    num_gpus: int
    num_cpus: int


@dataclass(eq=False)
class Member:
    """An actor. `faults`: how often it failed at a job since it last did one."""

    actor: Any
    faults: int = 0


def places(nodes: list[dict], workers: int | None) -> Places:
    """From ray.nodes(): one for each GPU; without any, one for each node with all its CPUs, as ComfyUI uses them all.

    `workers` is another number: where there are no GPUs, each node's CPUs are shared among those that it gets.
    """
    found = [node["Resources"] for node in nodes if node["Alive"]]
    with_gpus = [resources for resources in found if resources.get("GPU", 0) >= 1]
    if with_gpus:
        count = sum(int(resources["GPU"]) for resources in with_gpus)
        has_cpus = all(resources.get("CPU", 0) >= resources["GPU"] for resources in with_gpus)
        return Places(workers or count, 1, int(has_cpus))
    cpus = [int(resources["CPU"]) for resources in found if resources.get("CPU", 0) >= 1]
    count = workers or max(len(cpus), 1)
    a_node = -(-count // max(len(cpus), 1))  # rounded up
    return Places(count, 0, max(min(cpus, default=1) // a_node, 1))


def start_members(ray: Any, wanted: Places, arguments: list[str | None]) -> list[Member]:
    """Ask Ray for the actors. It starts one again, elsewhere if it must, when its process or node is lost."""
    ray.cloudpickle.register_pickle_by_value(batch_ray_worker)
    made = ray.remote(batch_ray_worker.Worker).options(
        num_gpus=wanted.num_gpus,
        num_cpus=wanted.num_cpus,
        max_restarts=-1,
        max_task_retries=0,
        scheduling_strategy="SPREAD",
    )
    return [Member(made.remote(*arguments)) for _ in range(wanted.count)]

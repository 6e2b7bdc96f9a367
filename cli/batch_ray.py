"""`batch --ray`: join a Ray cluster, run the store's jobs on it, leave it. The store stays here, with the driver.

Ray is an optional package; it is imported only when there is something to run.
"""

import argparse
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from .batch_ray_driver import Driver
from .batch_stop import Stop
from .batch_store import OPEN_STATES, Store
from .batch_view import BatchView
from .environment import venv_python
from .errors import CliError

_ANSWER_S = 10
# Ray asks a port that does not speak to it 20 times for 40 s before it gives up; read when Ray is imported
_TRIES = ("RAY_NUM_REDIS_GET_RETRIES", "2")


def run_on_ray(store: Store, options: argparse.Namespace, host_dir: Path, view: BatchView, stop: Stop) -> None:
    """Run the store's jobs on the cluster at options.ray. Raises CliError."""
    if not store.keys(*OPEN_STATES):
        return
    ray = imported()
    with joined(ray, options.ray), stop.watching(None):
        try:
            Driver(ray, store, options, host_dir, view, stop).run()
        except ray.exceptions.RayError as failure:
            raise CliError(
                f"the Ray cluster at {options.ray} does not answer any more: {first_line(failure)}; nothing is lost: "
                "mend that, then run the same command again"
            ) from failure


def imported() -> Any:
    """The package ray. Raises CliError."""
    os.environ.setdefault(*_TRIES)
    try:
        import ray
    except ImportError:
        raise CliError(
            "--ray needs the package ray, which is not installed; install the same version on every node: "
            f"{venv_python()} -m pip install ray; nothing was queued"
        ) from None
    return ray


@contextmanager
def joined(ray: Any, address: str) -> Iterator[None]:
    """This process is a driver of the cluster while this lasts; its actors end with it. Raises CliError."""
    check_address(address)
    with redirect_stdout(sys.stderr):  # Ray prints warnings, the last at its end; stdout is for --json
        _connect(ray, address)
        try:
            yield
        finally:
            ray.shutdown()


def _connect(ray: Any, address: str) -> None:
    on_end = signal.getsignal(signal.SIGTERM)  # Ray puts a handler of its own there
    try:
        ray.init(address=address, log_to_driver=False, logging_level="error")
    except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as failure:
        raise unreachable(address, str(failure)) from failure
    finally:
        signal.signal(signal.SIGTERM, on_end)


def check_address(address: str) -> None:
    """Raises CliError if nobody listens there; what is no HOST:PORT is left to Ray, which refuses it at once."""
    if "://" in address:
        raise CliError(f"--ray takes HOST:PORT of the cluster's head, or auto; got {address}; nothing was queued")
    named = os.environ.get("RAY_ADDRESS", "") if address == "auto" else address
    host, _, port = named.rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_S).close()
    except (OSError, OverflowError) as failure:
        raise unreachable(named, str(failure)) from failure


def unreachable(address: str, why: str) -> CliError:
    """What to say when a cluster cannot be joined."""
    return CliError(
        f"the Ray cluster at {address} cannot be joined: {why.strip() or 'no reason was given'}; start it, and a node "
        "of it on this machine, with .venv/bin/ray start (docs/batch.md); nothing was queued"
    )


def first_line(failure: Exception) -> str:
    """Ray's errors go on for many lines."""
    return next((line.strip() for line in str(failure).splitlines() if line.strip()), type(failure).__name__)

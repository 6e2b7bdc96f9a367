"""What an actor of a Ray cluster does with the pack: it keeps a ComfyUI alive and runs workflows on it.

Everything that goes back to the driver is plain data, because the driver's classes are not the node's.
"""

import asyncio
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

from .batch_api import RefusedError
from .batch_models import ModelHashes
from .batch_server import missing_nodes, model_folders
from .batch_single import run_one
from .client import ServerGoneError
from .record import local_conditions
from .server import HostServer

_THREADS = "OMP_NUM_THREADS"


class NodeServer:
    """A ComfyUI on this node, with the GPU that Ray has given to this process."""

    def __init__(self, host_dir: str, models: str | None, input_folder: str | None):
        _restore_threads()
        self._folders = model_folders(Path(models) if models else None)
        self._hashes = ModelHashes(self._folders)
        self._host_dir = Path(host_dir)
        self._input = Path(input_folder) if input_folder else None
        self._server = self._make()

    def _make(self) -> HostServer:
        # Ray runs in the environment of the pack, so its Python is the environment's
        return HostServer(Path(sys.executable), self._host_dir, model_folders=self._folders, input_folder=self._input)

    def _address(self) -> str:
        """Raises CliError if it cannot be started."""
        if not self._server.is_running():
            self._server.stop()
            self._server = self._make()
            self._server.start()
        return f"http://127.0.0.1:{self._server.port}"

    def missing(self, class_types: list[str]) -> list[str]:
        """The node classes that ComfyUI does not have here."""
        return asyncio.run(missing_nodes(self._address(), class_types))

    def run(self, posted: dict) -> dict[str, Any]:
        """See batch_ray_worker.Worker.run."""
        try:
            made = run_one(self._address(), posted)
        except RefusedError as refused:
            return {"refused": str(refused)}
        except ServerGoneError as gone:
            why = self._server.explain(str(gone))
            self._server.stop()  # it may live and hang: the next job gets a new one
            return {"gone": why}
        return {"made": asdict(made), "facts": local_conditions(self._server), "models": self._hashes(posted)}


def _restore_threads() -> None:
    """Ray sets this variable to the CPUs that an actor reserves; a ComfyUI would compute with that one thread.

    It gets what the process was started with: what the node's user has set, or nothing. (On Windows the two cannot be
    told apart, and Ray's number stays.)
    """
    given = psutil.Process().environ().get(_THREADS)
    os.environ.pop(_THREADS, None)
    if given is not None:
        os.environ[_THREADS] = given

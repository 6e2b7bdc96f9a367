"""What every command needs first: the environment and the host, made by one run at a time."""

from dataclasses import dataclass
from pathlib import Path

from .environment import create, ensure_pip, install, is_ready, venv_python
from .host import find_host, known_host
from .lock import locked
from .paths import STATE
from .requirements import all_requirements
from .terminal import say


@dataclass(frozen=True)
class Prepared:
    """A Python that has every package, and a host's folder."""

    python: Path
    host: Path


def prepare(dev: bool) -> Prepared:
    """Make what is missing of host and environment (`dev`: with the tests' packages); else offline. Raises CliError."""
    waiting = "another run is setting up this folder's environment; waiting for it"
    with locked(STATE / "environment.lock", on_wait=lambda: say(waiting)):
        host = known_host()
        if host is None:
            create()
            ensure_pip()
            host = find_host(venv_python())
        wanted = all_requirements(host, dev)
        if not is_ready(wanted):
            install(wanted)
        return Prepared(venv_python(), host)

"""Running other programs: the environment they get, and handing the whole command over to one."""

import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

from .errors import CliError


def clean_environment(**changes: str) -> dict[str, str]:
    """This process's variables without those that let packages from outside the environment in; UTF-8 everywhere."""
    dropped = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "__PYVENV_LAUNCHER__")
    variables = {name: value for name, value in os.environ.items() if name not in dropped}
    return {**variables, "PYTHONNOUSERSITE": "1", "PYTHONUTF8": "1", "PIP_USER": "0", **changes}


def run(command: list[str | Path], doing: str) -> None:
    """Run a program whose output the user should see (on stderr). Raises CliError naming what was being done."""
    sys.stderr.flush()
    try:
        words = [str(part) for part in command]
        done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=2, env=clean_environment())
    except OSError as failure:
        raise CliError(f"{doing} failed: {failure}") from failure
    if done.returncode:
        raise CliError(f"{doing} failed (exit code {done.returncode}); the reason is in the lines above")


def succeeds(command: list[str | Path]) -> bool:
    """Whether a program can be started and ends with 0; its output is dropped."""
    try:
        done = subprocess.run(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=clean_environment(),
        )
    except OSError:
        return False
    return done.returncode == 0


def output_of(command: list[str | Path]) -> str | None:
    """What a program writes to stdout, or None if it fails."""
    try:
        return subprocess.check_output(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=clean_environment(),
            text=True,
            encoding="utf-8",
            errors="replace",
        )
    except (OSError, subprocess.CalledProcessError):
        return None


def hand_over(command: list[str | Path], folder: Path | None = None, **variables: str) -> NoReturn:
    """Become another program: same process where the platform can, else a child whose exit code is passed on."""
    words = [str(part) for part in command]
    environment = clean_environment(**variables)
    sys.stdout.flush()
    sys.stderr.flush()
    if sys.platform != "win32":
        if folder:
            os.chdir(folder)
        os.execve(words[0], words, environment)
    child = subprocess.Popen(words, cwd=folder, env=environment)
    while True:
        try:
            raise SystemExit(child.wait())
        except KeyboardInterrupt:  # the console sends Ctrl-C to the child as well; let it end in its own way
            continue

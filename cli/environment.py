"""The pack's own Python environment, <clone>/.venv: made once, finished if a run was cut off, used offline afterwards.

A stamp in the environment lists what was installed, for which Python. It is removed before anything changes and written
after a check, so an environment without a fitting stamp is one to finish; one whose Python does not run is made anew.
"""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from .errors import CliError
from .paths import VENV
from .process import output_of, run, succeeds
from .terminal import say

STAMP = VENV / "wan-gguf-environment.json"
_PROBE = "import platform, sys; print(platform.python_implementation(), *sys.version_info[:3], sys.platform)"
_CHECK = "import torch, torchvision, torchaudio, aiohttp, PIL, av, yaml, gguf, ftfy"


def venv_python() -> Path:
    """The environment's interpreter, whether or not it exists yet."""
    return VENV / "Scripts" / "python.exe" if sys.platform == "win32" else VENV / "bin" / "python"


def is_active() -> bool:
    """Whether this very process runs in the environment."""
    return os.path.realpath(sys.prefix) == os.path.realpath(VENV)


def _identity() -> str | None:
    """The interpreter's name and version, or None if it does not run or sees packages outside the environment."""
    settings = VENV / "pyvenv.cfg"
    if not settings.is_file() or "system-site-packages = true" in settings.read_text(encoding="utf-8").lower():
        return None
    found = output_of([venv_python(), "-c", _PROBE])
    return found.strip() if found else None


def _stamped(identity: str) -> set[str]:
    """The requirements the stamp vouches for; none if it is missing, unreadable or of another Python."""
    try:
        stamp = json.loads(STAMP.read_text(encoding="utf-8"))
        return set(stamp["requirements"]) if stamp["python"] == identity else set()
    except (OSError, ValueError, LookupError, TypeError):
        return set()


def is_ready(requirements: list[str]) -> bool:
    """Whether the environment already holds all of them; needs no network and changes nothing."""
    identity = _identity()
    return identity is not None and set(requirements) <= _stamped(identity)


def create() -> None:
    """Make an empty environment with pip, unless a working one is there."""
    if _identity() is not None:
        return
    if VENV.exists():
        say(f"{VENV} does not work any more and is made anew")
        _remove()
    base = getattr(sys, "_base_executable", None) or sys.executable  # not the environment's own, should it run us
    say(f"making a Python environment in {VENV}")
    if not succeeds([base, "-c", "import venv, ensurepip"]):
        if shutil.which("uv") is None:
            raise CliError(
                f"{base} lacks the modules venv and ensurepip; install them (Debian, Ubuntu: the package python3-venv) "
                "or put uv on PATH, then run this again"
            )
        run(["uv", "venv", "--seed", "--python", base, VENV], "making the Python environment with uv")
        return
    run([base, "-m", "venv", VENV], "making the Python environment")


def _remove() -> None:
    try:
        shutil.rmtree(VENV)
    except OSError as failure:
        raise CliError(f"{VENV} cannot be removed ({failure}); close the programs that use it, delete it") from failure


def ensure_pip() -> None:
    """Give the environment pip, should it have been made without."""
    python = venv_python()
    if succeeds([python, "-m", "pip", "--version"]) or succeeds([python, "-m", "ensurepip"]):
        return
    if shutil.which("uv") is None:
        raise CliError(f"{VENV} has no pip and cannot get one; delete that folder, then run this again")
    run(["uv", "pip", "install", "--python", python, "pip"], "installing pip")


def install(requirements: list[str]) -> None:
    """Bring the environment to hold all requirements, in one resolution, and stamp it. Raises CliError."""
    create()
    say("installing what ComfyUI and the pack need (about 6 GB on Linux with CUDA builds; once)")
    STAMP.unlink(missing_ok=True)
    _install_all(requirements)
    if not succeeds([venv_python(), "-c", _CHECK]):
        say("the environment was damaged and is made anew")
        _remove()
        create()
        _install_all(requirements)
        run([venv_python(), "-c", _CHECK], "checking the new environment")
    stamp = {"python": _identity(), "requirements": sorted(requirements)}
    partial = STAMP.with_suffix(".part")
    partial.write_text(json.dumps(stamp, indent=1), encoding="utf-8")
    os.replace(partial, STAMP)


def _install_all(requirements: list[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="wan-gguf-") as folder:
        listing = Path(folder, "requirements.txt")
        listing.write_text("\n".join(requirements) + "\n", encoding="utf-8")
        uv = _uv()
        if uv and succeeds_visibly([uv, "pip", "install", "--python", venv_python(), "-r", listing]):
            return
        ensure_pip()
        run([venv_python(), "-m", "pip", "install", "-r", listing], "installing packages with pip")


def succeeds_visibly(command: list[str | Path]) -> bool:
    """Like `succeeds`, but the user sees the output."""
    try:
        run(command, Path(command[0]).name)
    except CliError as failure:
        say(f"{failure}; going on with pip")
        return False
    return True


def _uv() -> str | Path | None:
    """uv from PATH or installed into the environment; None where pip has an index of its own that uv would not use."""
    own = venv_python().with_name("uv.exe" if sys.platform == "win32" else "uv")
    if _only_pip_has_an_index():
        return None
    on_path = shutil.which("uv")
    if on_path and succeeds([on_path, "--version"]):
        return on_path
    ensure_pip()
    if succeeds([own, "--version"]) or succeeds([venv_python(), "-m", "pip", "install", "uv"]):
        return own
    return None


def _only_pip_has_an_index() -> bool:
    """A user who told only pip where packages come from (a mirror, a company's server) gets them from there."""
    if any(os.environ.get(name) for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_CONFIG_FILE")):
        return False
    ensure_pip()
    settings = output_of([venv_python(), "-m", "pip", "config", "list"]) or ""
    return any(line.partition("=")[0].endswith(".index-url") for line in settings.splitlines())

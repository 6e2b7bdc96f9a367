"""What the environment has to hold: the pack's requirements from pyproject.toml, the host's from its requirements.txt.

pyproject.toml is read with a small pattern and not with tomllib, which Python 3.10 lacks; a test compares the two.
"""

import ast
import re
from pathlib import Path

from .errors import CliError
from .paths import ROOT

# The newest trio whose builds agree with each other; the host's own list leaves the versions open.
TORCH = ("torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0")


def _list_after(key: str, text: str) -> list[str]:
    match = re.search(rf"^{key}\s*=\s*(\[.*?\](?=\s*(?:\n|$)))", text, re.MULTILINE | re.DOTALL)
    if match is None:
        raise CliError(f"pyproject.toml has no list '{key}'; restore the file from the repository")
    return ast.literal_eval(match.group(1))


def pack_requirements(dev: bool, pyproject: Path = ROOT / "pyproject.toml") -> list[str]:
    """The pack's run-time requirements; with `dev`, those of the tests too."""
    text = pyproject.read_text(encoding="utf-8")
    return _list_after("dependencies", text) + (_list_after("dev", text) if dev else [])


def pack_version(pyproject: Path = ROOT / "pyproject.toml") -> str:
    """The version in pyproject.toml."""
    match = re.search(r'^version\s*=\s*"([^"]+)"', pyproject.read_text(encoding="utf-8"), re.MULTILINE)
    return match.group(1) if match else "unknown"


def host_requirements(host: Path) -> list[str]:
    """The lines of the host's requirements.txt, without comments."""
    lines = (host / "requirements.txt").read_text(encoding="utf-8").splitlines()
    lines = [re.sub(r"(^|\s)#.*", "", line).strip() for line in lines]
    return [line for line in lines if line]


def all_requirements(host: Path, dev: bool) -> list[str]:
    """Everything, for one single resolution."""
    return [*TORCH, *host_requirements(host), *pack_requirements(dev)]

"""Finding the host: the ComfyUI that COMFYUI_DIR names, the one this clone lies in, or a fetched copy in a cache."""

import os
import re
from pathlib import Path

from .errors import CliError
from .host_archive import cached_host, fetch_host
from .paths import ROOT

OLDEST = (0, 30, 0)
_PARTS = ("main.py", "nodes.py", "requirements.txt", "comfy")


def _missing(folder: Path) -> list[str]:
    return [name for name in _PARTS if not (folder / name).exists()]


def host_version(folder: Path) -> str:
    """The host's version as it states it, "unknown" if it does not."""
    try:
        text = (folder / "comfyui_version.py").read_text(encoding="utf-8")
    except OSError:
        return "unknown"
    match = re.search(r'__version__\s*=\s*"([^"]+)"', text)
    return match.group(1) if match else "unknown"


def _check_version(folder: Path, named_by: str) -> Path:
    numbers = tuple(int(number) for number in re.findall(r"\d+", host_version(folder))[:3])
    if numbers and numbers < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise CliError(
            f"the ComfyUI in {folder} ({named_by}) is version {host_version(folder)}; {oldest} or newer is needed; "
            "update it, or set COMFYUI_DIR to a newer one"
        )
    return folder


def named_host() -> Path | None:
    """The host from COMFYUI_DIR or around this clone; None if there is neither. Raises CliError."""
    named = os.environ.get("COMFYUI_DIR")
    if named:
        folder = Path(os.path.abspath(os.path.expanduser(named)))
        missing = _missing(folder)
        if missing:
            raise CliError(
                f"COMFYUI_DIR is {named}, which is no ComfyUI folder (it has no {', no '.join(missing)}); "
                "set it to the folder with ComfyUI's main.py, or unset it"
            )
        return _check_version(folder, "COMFYUI_DIR")
    around = ROOT.parent.parent
    if ROOT.parent.name == "custom_nodes" and not _missing(around):
        return _check_version(around, "this pack lies in its custom_nodes")
    return None


def find_host(python: Path) -> Path:
    """The host's folder; with none named and none cached, it is fetched with pip of the environment of `python`."""
    return named_host() or cached_host() or fetch_host(python)


def known_host() -> Path | None:
    """The host's folder if nothing has to be fetched for it."""
    return named_host() or cached_host()

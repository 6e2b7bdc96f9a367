"""The kept input files of a record, checked before anything runs and given to a server under the workflow's names."""

import shutil
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType

from .errors import CliError
from .input_files import Place, described, is_reserved, named_files, place_of
from .output import file_sha256

# below a HostServer's own folder; the host adds a second `temp` to the one it is given (its main.py)
SERVER_FOLDERS = {"input": "input", "output": "output", "temp": "temp/temp"}


def check_kept(path: Path, record: dict, marked: Mapping[str, Collection[str]] = MappingProxyType({})) -> None:
    """Raise CliError unless the record keeps every file that its workflow names; `marked` as named_files takes it."""
    kept = record.get("inputs", {})
    for name in named_files(record["workflow"], marked):
        if name not in kept:
            raise CliError(
                f"{path} cannot be made again: its workflow reads the {described(name)}, which the record does not keep"
            )
    for name, file in kept.items():
        if file is None:
            raise CliError(
                f"{path} cannot be made again: the {described(name)} could not be fetched when the record was made"
            )


def changed_inputs(path: Path, record: dict) -> list[str]:
    """A line for each kept file that is not the recorded one. Raises CliError if one is not there or not kept."""
    check_kept(path, record)
    changed = []
    for name, kept in record.get("inputs", {}).items():
        file = path.parent / kept["file"]
        if not file.is_file():
            raise CliError(f"the {described(name)} of {path} is missing: it belongs at {file}")
        if file_sha256(file) != kept["sha256"]:
            changed.append(f"{described(name)} is not the one that was recorded: {file} has another SHA-256")
    return changed


@contextmanager
def placed_inputs(base: Path, path: Path, record: dict) -> Iterator[None]:
    """Inside, a server of our own whose folder is `base` has the kept files. Raises CliError."""
    placed: list[Path] = []
    try:
        for name, kept in record.get("inputs", {}).items():
            target = _target(base, name)
            placed.append(target)
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path.parent / kept["file"], target)
            except OSError as failure:
                raise CliError(f"the {described(name)} cannot be given to ComfyUI: {failure.strerror}") from failure
        yield
    finally:
        for target in placed:
            with suppress(OSError):  # the server's folder is removed with it
                target.unlink()


def _target(base: Path, name: str) -> Path:
    place = place_of(name)
    if place is None:  # a record's form is checked before
        raise CliError(f"the name {name!r} leads out of ComfyUI's folders; no file can be put there")
    _check_name(place, sys.platform)
    return base / SERVER_FOLDERS[place.kind] / place.path


def _check_name(place: Place, platform: str) -> None:
    if platform == "win32" and is_reserved(place):
        raise CliError(f"Windows allows no file called {place.path!r}; check this record on another system")

"""Whether a file can be written where it is wanted."""

import shutil
from pathlib import Path

from .errors import ConvertError
from .partial import SUFFIX
from .plan import Plan
from .source import Source


def check_target(source: Source, plan: Plan, target: Path, force: bool) -> None:
    """Raise ConvertError when the file cannot be written there; nothing is changed."""
    if target.suffix.lower() != f".{plan.container}":
        raise ConvertError(f"{target.name}: this writes a .{plan.container} file; choose a name that ends so")
    if not target.parent.is_dir():
        raise ConvertError(f"{target}: the folder {target.parent} does not exist; make it, or name another")
    if any(target.exists() and target.samefile(file) for file in source.files):
        raise ConvertError(f"{target}: is the source itself; choose another name")
    if target.is_dir():
        raise ConvertError(f"{target}: is a folder; name a file")
    if target.exists() and not force:
        raise ConvertError(f"{target}: exists; choose another name, or overwrite it with --force")
    _check_space(target, plan.nbytes)


def _check_space(target: Path, nbytes: int) -> None:
    """What a killed run left will be taken over, so its bytes count as free."""
    stale = target.with_name(target.name + SUFFIX)
    free = shutil.disk_usage(target.parent).free + (stale.stat().st_size if stale.is_file() else 0)
    if free < nbytes:
        raise ConvertError(
            f"{target.parent}: {nbytes / 1e9:.2f} GB are needed and {free / 1e9:.2f} GB free; "
            "make room, or choose another folder or a smaller type"
        )

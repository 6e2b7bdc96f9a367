"""Where the host writes for a decode, and how the finished files get their names.

The host writes into a hidden folder beside the finished files, which are then renamed, so a run that is stopped leaves
nothing under a name that someone would take for a video.
"""

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .client import Result
from .errors import CliError, UsageError
from .lock import locked
from .paths import STATE

LEFTOVER_AGE_S = 24 * 3600  # as old as that has nobody who writes into it any more
_PREFIX = ".wan-gguf-decode-"


@contextlib.contextmanager
def work_folder(folder: Path) -> Iterator[Path]:
    """A hidden folder on the disk of the finished files. Raises UsageError where nothing can be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder)
        work = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=folder))
    except OSError as error:
        raise UsageError(f"{folder} cannot be written to ({error.strerror}); name another folder with --out") from error
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def place_all(result: Result, work: Path, folder: Path, stem: str) -> list[dict[str, Any]]:
    """Move each video and its record to their names; returns what --json prints of them."""
    output = result.outputs.get("save_video", {})
    shown, records = output.get("images", []), output.get("wan_gguf", [])
    if not shown or len(shown) != len(records):
        raise CliError(f"ComfyUI made {len(shown)} videos and {len(records)} records; there is nothing to keep")
    with locked(STATE / "output.lock"):
        return [
            _place(work / entry["subfolder"] / entry["filename"], record, folder, stem)
            for entry, record in zip(shown, records, strict=True)
        ]


def _remove_leftovers(folder: Path) -> None:
    """Remove what decodes that were killed a day ago and more left in the folder."""
    for left in folder.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            if left.is_dir() and not left.is_symlink() and time.time() - _last_change(left) > LEFTOVER_AGE_S:
                shutil.rmtree(left, ignore_errors=True)


def _last_change(folder: Path) -> float:
    return max(path.lstat().st_mtime for path in (folder, *folder.rglob("*")))


def _place(made: Path, record: dict[str, Any], folder: Path, stem: str) -> dict[str, Any]:
    number = 1
    while True:
        name = stem if number == 1 else f"{stem}-{number}"
        video, beside = folder / f"{name}{made.suffix}", folder / f"{name}.json"
        if not video.exists() and not beside.exists():
            break
        number += 1
    text = json.dumps({"file": video.name, **record}, ensure_ascii=False, indent=2) + "\n"
    partial = made.with_suffix(".record")
    partial.write_text(text, encoding="utf-8", errors="backslashreplace")
    os.replace(made, video)
    os.replace(partial, beside)
    return {"video": str(video), "record": str(beside)} | {
        key: record[key] for key in ("frames_sha256", "video_sha256", "frames", "decoded_as")
    }

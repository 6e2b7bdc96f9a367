"""Files that appear under their name when they are complete: they grow as hidden ones beside it.

The last step never overwrites: of two programs that want one name, the second takes the next number.
"""

import contextlib
import os
import time
import uuid
from pathlib import Path

_PREFIX, _SUFFIX = ".wan-gguf-", ".part"
LEFTOVER_AGE_S = 24 * 3600  # one this old has no writer any more: a piece of a video takes less


def partial_path(folder: Path) -> Path:
    """A new hidden name in the folder."""
    return folder / f"{_PREFIX}{uuid.uuid4().hex}{_SUFFIX}"


def remove_leftovers(folder: Path) -> None:
    """Remove what programs that were killed a day ago and more left in the folder."""
    with contextlib.suppress(OSError):
        for path in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > LEFTOVER_AGE_S:
                    path.unlink()


def remove(path: Path) -> None:
    """Remove a file if it is there and can be removed."""
    with contextlib.suppress(OSError):
        path.unlink()


def write_whole(path: Path, data: bytes) -> None:
    """Write a file, flush it to the disk and give it its name. Raises FileExistsError if that is taken, OSError."""
    partial = partial_path(path.parent)
    try:
        with open(partial, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        place(partial, path)
    finally:
        remove(partial)
    flush_folder(path.parent)


def place(partial: Path, path: Path) -> None:
    """Give a complete file its name, in one step. Raises FileExistsError if that is taken, OSError."""
    if os.name == "nt":
        os.rename(partial, path)  # refuses to overwrite there
        return
    try:
        os.link(partial, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        if path.exists():
            raise FileExistsError(f"{path} exists") from None
        os.rename(partial, path)
    else:
        os.unlink(partial)


def numbered(folder: Path, name: str, number: int, extension: str) -> Path:
    """The file name as the host counts: name_00001_.mp4."""
    return folder / f"{name}_{number:05}_.{extension}"


def flush_folder(folder: Path) -> None:
    """Make new names last, too; where folders cannot be opened the system does so by itself."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

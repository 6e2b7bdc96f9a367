"""A folder of small files that any number of processes write at once, bounded in size.

A file is written under a temporary name and then renamed, so whoever reads sees all of it or none. The least recently
used ones go first; a use sets the time of change, because many systems do not record when a file was read.
Everything in the folder may be deleted at any time. A folder that cannot be written costs its use, never a run.
"""

import contextlib
import logging
import os
import stat
import tempfile
import time
from functools import cache
from pathlib import Path

MAX_FILE_BYTES = 64 << 20  # what was not written by us is not read whole
LEFTOVER_AGE_S = 3600  # a temporary file this old has no writer any more
_TEMPORARY = ".tmp"


class SmallFiles:
    """The files `<name><suffix>` in `folder`; names come from the program, never from a workflow."""

    def __init__(self, folder: str | Path, suffix: str, limit_bytes: int):
        self.folder, self.suffix, self.limit_bytes = Path(folder), suffix, limit_bytes

    def read(self, name: str) -> bytes | None:
        """The contents, counted as a use; None if there is no regular file of that name or it cannot be read."""
        path = self._path(name)
        try:
            status = path.lstat()  # not stat: a link is nothing that we have written
            if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_FILE_BYTES:
                return None
            data = path.read_bytes()
        except OSError:
            return None
        with contextlib.suppress(OSError):  # a folder that can only be read still serves
            os.utime(path)
        return data

    def write(self, name: str, data: bytes) -> str | None:
        """Put the file there, replacing any other, and make room. Returns why that was not possible, logged once."""
        if len(data) > self.limit_bytes:
            return f"its {len(data)} bytes are more than the limit of {self.limit_bytes}"
        try:
            self._replace(name, data)
            self._make_room()
        except OSError as error:
            _warn_once(str(self.folder), error.strerror or str(error))
            return error.strerror or str(error)
        return None

    def _replace(self, name: str, data: bytes) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        number, temporary = tempfile.mkstemp(_TEMPORARY, dir=self.folder)
        try:
            with os.fdopen(number, "wb") as file:
                file.write(data)
            os.replace(temporary, self._path(name))
        except BaseException:
            _remove(Path(temporary))
            raise

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}{self.suffix}"

    def _make_room(self) -> None:
        """Remove leftovers, and the least recently used files until the rest is within the limit."""
        found, now = [], time.time()
        with os.scandir(self.folder) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):  # removed by another process
                    status = entry.stat(follow_symlinks=False)
                    if entry.name.endswith(_TEMPORARY) and now - status.st_mtime > LEFTOVER_AGE_S:
                        _remove(Path(entry.path))
                    elif entry.name.endswith(self.suffix):
                        found.append((status.st_mtime_ns, entry.path, status.st_size))
        total = sum(size for _, _, size in found)
        for _, path, size in sorted(found):
            if total <= self.limit_bytes:
                break
            _remove(Path(path))
            total -= size


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # gone already, or, on Windows, being read
        path.unlink()


@cache
def _warn_once(folder: str, reason: str) -> None:
    logging.warning("Wan GGUF: %s cannot be written (%s); the run goes on without what it would keep", folder, reason)

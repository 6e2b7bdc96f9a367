"""A file that appears under its name when it is complete and not before: it grows as NAME.part beside it.

The part is removed when anything ends the work early. One that a killed program left is taken over by the next run; one
that is being written is not, which its lock tells.
"""

import os
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO

from .errors import ConvertError

if sys.platform != "win32":
    import fcntl

SUFFIX = ".part"


class PartialFile:
    """`with PartialFile(target) as part:` write to `part.file`, then `part.complete()`."""

    def __init__(self, target: Path):
        self.target = target
        self.path = target.with_name(target.name + SUFFIX)
        self.file: IO[bytes]
        self._is_complete = False

    def __enter__(self) -> "PartialFile":
        self.file = _open_locked(self.path)
        return self

    def complete(self) -> None:
        """All is written: put it under its name, in one step."""
        self.file.flush()
        os.fsync(self.file.fileno())
        if sys.platform == "win32":  # which renames no open file
            self.file.close()
        os.replace(self.path, self.target)
        self._is_complete = True

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if sys.platform == "win32":
            self.file.close()
        if not self._is_complete:
            with suppress(OSError):
                self.path.unlink()
        self.file.close()


def _open_locked(path: Path) -> IO[bytes]:
    """The empty file, opened for writing by nobody else. Raises ConvertError, OSError."""
    in_use = f"{path}: another conversion is writing this file; wait for it, or choose another name"
    if sys.platform == "win32":
        try:
            path.unlink(missing_ok=True)
        except PermissionError:
            raise ConvertError(in_use) from None
        return path.open("xb")
    while True:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666), "r+b")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_still_there = path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat())
        except BlockingIOError:
            file.close()
            raise ConvertError(in_use) from None
        except OSError:  # a file system without locks
            is_still_there = True
        if is_still_there:
            file.truncate(0)
            return file
        file.close()

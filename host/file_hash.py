"""What a file holds, as its sha256; found once and remembered for as long as the file is not touched.

Reading 4 GB takes seconds, so the hash is kept in a small file whose name says which state of which file it is of: the
resolved path, size, times of modification and of status change, and inode. Anything wrong with it, and the file is read
again. The hash is taken before anything else and not beside it: the disk is what is slow, and on a miss the encoder
reads the same pages next, then from memory.
"""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path

from .small_files import SmallFiles

CHUNK_BYTES = 8 << 20
SETTLED_NS = 2_000_000_000  # the coarsest clock of a file system (FAT); a younger file could change unnoticed


class FileChangedError(RuntimeError):
    """The file was written to while it was read."""


@dataclass(frozen=True)
class FileVersion:
    """One state of one file: equal values, equal contents."""

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int  # also changes when someone sets mtime back; on Windows the time of creation
    inode: int

    def name(self) -> str:
        """The same as a file name."""
        return hashlib.sha256(json.dumps(astuple(self)).encode()).hexdigest()


def file_version(path: str | Path) -> FileVersion:
    """The state of the file now. Raises OSError."""
    resolved = Path(path).resolve(strict=True)
    status = resolved.stat()
    return FileVersion(str(resolved), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def file_sha256(version: FileVersion, remembered: SmallFiles, progress: Callable[[int], None]) -> str:
    """The sha256 of that state's contents in hex; `progress` is called with the bytes read so far and may raise.

    Raises FileChangedError if the file is no longer in that state, OSError.
    """
    found = _recall(remembered.read(version.name()), version)
    if found is not None:
        return found
    found = _hash(version.path, progress)
    if file_version(version.path) != version:
        raise FileChangedError(f"{Path(version.path).name} was changed while it was read; run again")
    if abs(time.time_ns() - max(version.mtime_ns, version.ctime_ns)) > SETTLED_NS:
        remembered.write(version.name(), f"{found} {_check(found, version)}".encode())
    return found


def _hash(path: str, progress: Callable[[int], None]) -> str:
    digest, buffer, done = hashlib.sha256(), bytearray(CHUNK_BYTES), 0
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(memoryview(buffer)[:count])
            done += count
            progress(done)
    return digest.hexdigest()


def _recall(line: bytes | None, version: FileVersion) -> str | None:
    """The hash in a remembered line `<hash> <check>`, or None if it is not one that was written for this file."""
    found, _, check = (line or b"").decode("ascii", errors="replace").partition(" ")
    return found if check == _check(found, version) else None


def _check(found: str, version: FileVersion) -> str:
    return hashlib.sha256(f"{version.name()} {found}".encode()).hexdigest()

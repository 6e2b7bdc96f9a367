"""A file mapped into memory, read-only."""

import mmap
import os
from pathlib import Path


def map_file(path: Path) -> mmap.mmap | bytes:
    """The bytes of `path` without reading them; an empty file, which cannot be mapped, gives b"". Raises OSError.

    Read-only on purpose: a private writable mapping of a file larger than the free memory is refused by some systems.
    """
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return b""
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

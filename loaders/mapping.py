"""A file mapped into memory, read-only, and zero-copy tensors over parts of it."""

import mmap
import os
import warnings
from pathlib import Path

import torch


def map_file(path: Path) -> mmap.mmap | bytes:
    """The bytes of `path` without reading them; an empty file, which cannot be mapped, gives b"". Raises OSError.

    Read-only on purpose: a private writable mapping of a file larger than the free memory is refused by some systems.
    """
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return b""
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def tensor_view(buffer: mmap.mmap | bytes, offset: int, nbytes: int) -> torch.Tensor:
    """(nbytes,) uint8 over `buffer`, which it keeps alive. Writing to it crashes the process: never do."""
    if nbytes == 0:
        return torch.empty(0, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given buffer is not writable")
        return torch.frombuffer(buffer, dtype=torch.uint8, count=nbytes, offset=offset)

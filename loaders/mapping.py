"""Zero-copy tensors over parts of a mapped file."""

import contextlib
import mmap
import warnings

import torch


def announce(buffer: mmap.mmap | bytes, offset: int, nbytes: int) -> None:
    """Let the system read these bytes in the background, where it takes such advice (not on Windows).

    For parts of a few pages, scattered over the file, that are about to be read: read one after the other, each would
    wait for the disk alone.
    """
    if isinstance(buffer, mmap.mmap) and hasattr(mmap, "MADV_WILLNEED"):
        start = offset // mmap.PAGESIZE * mmap.PAGESIZE
        with contextlib.suppress(OSError):  # advice; who reads the bytes is told what is wrong
            buffer.madvise(mmap.MADV_WILLNEED, start, offset + nbytes - start)


def tensor_view(buffer: mmap.mmap | bytes, offset: int, nbytes: int) -> torch.Tensor:
    """(nbytes,) uint8 over `buffer`, which it keeps alive. Writing to it crashes the process: never do."""
    if nbytes == 0:
        return torch.empty(0, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given buffer is not writable")
        return torch.frombuffer(buffer, dtype=torch.uint8, count=nbytes, offset=offset)

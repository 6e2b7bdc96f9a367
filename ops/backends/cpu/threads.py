"""Runs a kernel's job on as many threads as torch uses.

Where torch's OpenMP runtime is GNU's (every Linux wheel), the job runs on torch's own threads: they are awake, and no
second pool competes with them for the cores. Elsewhere Python threads do it; the kernels release the GIL.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING

import torch

from .machine import KERNEL_TYPE, Kernel

if TYPE_CHECKING:  # llvmlite may not be there
    from .job import Job


def run(kernel: Kernel, job: Job, threads: int | None = None) -> None:
    """Work on the job until it is done; `threads` is torch's number unless given."""
    threads = threads or torch.get_num_threads()
    parallel = _gomp_parallel()
    if threads == 1:
        kernel(ctypes.addressof(job))
    elif parallel is not None:
        parallel(kernel, ctypes.byref(job), threads, 0)
    else:
        _run_on_python_threads(kernel, job, threads)


def _run_on_python_threads(kernel: Kernel, job: Job, threads: int) -> None:
    others = [_pool(threads).submit(kernel, ctypes.addressof(job)) for _ in range(threads - 1)]
    kernel(ctypes.addressof(job))
    for other in others:
        other.result()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads - 1, thread_name_prefix="wan-gguf-cpu")


@cache
def _gomp_parallel() -> Callable[..., None] | None:
    """`GOMP_parallel(fn, data, threads, flags)` of the libgomp that torch has loaded, or None."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        with open("/proc/self/maps") as maps:
            paths = {line.split(maxsplit=5)[5].strip() for line in maps if "libgomp" in line}
        if len(paths) != 1:  # several runtimes: which one is torch's is not known
            return None
        function = ctypes.CDLL(paths.pop()).GOMP_parallel
    except (OSError, AttributeError):
        return None
    function.argtypes = [KERNEL_TYPE, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    function.restype = None
    return function

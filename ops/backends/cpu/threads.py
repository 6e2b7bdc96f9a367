"""Runs a kernel's job on as many threads as torch uses.

Where torch's OpenMP runtime speaks GNU's interface (every Linux wheel), the job runs on torch's own threads: they are
awake, and no second pool competes with them for the cores. Elsewhere Python threads do it; the kernels release the GIL.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
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
    """`GOMP_parallel(fn, data, threads, flags)` of the OpenMP runtime that torch is linked to, or None.

    Other packages bring runtimes of their own (sentencepiece does), so it is asked for through torch's library.
    """
    if not sys.platform.startswith("linux"):
        return None
    try:
        function = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so")).GOMP_parallel
    except (OSError, AttributeError):  # a torch of another make
        return None
    function.argtypes = [KERNEL_TYPE, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    function.restype = None
    return function

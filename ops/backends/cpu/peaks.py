"""Largest values on the CPU, in one pass over the bytes: of a weight's rows, and of activations for mode int8."""

import torch

from ...kernel import RowPeaksKernel
from ...packed import PackedWeight
from . import decode, threads

try:
    from . import peaks_emit
    from .formats import DECODERS
    from .job import start
except ImportError:  # llvmlite is not there; `refuses` says so
    pass


def refuses(packed: PackedWeight) -> str | None:
    """None, or why this kernel cannot run the call."""
    problem = decode.refuses(packed, torch.float32)
    if problem is None and packed.shape[-1] % DECODERS[packed.format.name].elems:
        return f"takes rows of whole blocks of {DECODERS[packed.format.name].elems}"
    return problem


def row_peaks(packed: PackedWeight) -> torch.Tensor:
    """(n, k) packed -> (n,) float32: the largest |w| of each row."""
    (n, k), decoder = packed.shape, DECODERS[packed.format.name]
    peaks = torch.empty(n)
    job = start(
        peaks_emit.RowPeaksJob,
        count=n,
        step=max(1, decode.CHUNK_ELEMS // k),
        source=packed.data.data_ptr(),
        row_bytes=packed.format.row_bytes(k),
        row_blocks=k // decoder.elems,
        peaks=peaks.data_ptr(),
    )
    threads.run(peaks_emit.row_peaks_kernel(packed.format.name), job)
    return peaks


def column_peaks(x: torch.Tensor) -> torch.Tensor:
    """(m, k) with k a multiple of 64, rows of contiguous numbers -> (k,) float32: the largest |x| of each column."""
    m, k = x.shape
    peaks = torch.empty(k)
    job = start(
        peaks_emit.ColumnPeaksJob,
        count=k // peaks_emit.STRIP,
        step=1,
        x=x.data_ptr(),
        row_bytes=x.stride(0) * x.element_size(),
        m=m,
        peaks=peaks.data_ptr(),
    )
    threads.run(peaks_emit.column_peaks_kernel(_name(x)), job)
    return peaks


def token_peaks(x: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    """(m, k), keep (k,) int32, 0 or -1 -> (m,) float32: the largest |x| of each token in the columns to keep."""
    m, k = x.shape
    peaks = torch.empty(m)
    job = start(
        peaks_emit.TokenPeaksJob,
        count=m,
        step=max(1, decode.CHUNK_ELEMS // k),
        x=x.data_ptr(),
        row_bytes=x.stride(0) * x.element_size(),
        k=k,
        keep=keep.data_ptr(),
        peaks=peaks.data_ptr(),
    )
    threads.run(peaks_emit.token_peaks_kernel(_name(x)), job)
    return peaks


def _name(x: torch.Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")


KERNELS = [RowPeaksKernel(name="cpu.row_peaks", priority=10, refuses=refuses, run=row_peaks)]

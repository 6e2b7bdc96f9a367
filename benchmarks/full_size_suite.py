"""Runs the parts that `load.py` was asked for: makes files, measures in processes of their own, removes the files."""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from wan_gguf.benchmarks import full_size_files as files
from wan_gguf.benchmarks import full_size_memory, machine
from wan_gguf.benchmarks.full_size_report import faults, keys
from wan_gguf.benchmarks.results import Results, say
from wan_gguf.cli.paths import user_cache
from wan_gguf.ops.dispatch import MODES

CHILD = Path(__file__).with_name("full_size_child.py")
SPARE_BYTES = 1 << 30  # what the disk keeps free beside the files
HEAD_BYTES = 16 << 20  # more than what stands before the data of any of these files


def run(options: argparse.Namespace) -> Results:
    """The headline numbers, what was missed, and everything measured; plain numbers, ready for JSON."""
    results: Results = {"machine": machine.describe(), "memory_from": full_size_memory.source(), "tiny": options.tiny}
    results["loadavg_before"] = _load_average()
    say(", ".join(f"{name} {value}" for name, value in results["machine"].items()))
    for name in options.only:
        with _folder(options.keep) as folder:
            results[name] = PARTS[name](folder, options.tiny)
    results["loadavg_after"] = _load_average()
    return {**keys(results), "faults": faults(results), **results}


def _load_average() -> list[float] | None:
    return list(os.getloadavg()) if hasattr(os, "getloadavg") else None


@contextlib.contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """Where the files of a part lie: what `--keep` names, or a folder that goes with its files."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep
        return
    # not the system's folder for temporary files, which may be kept in memory
    user_cache().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="full-size-", dir=user_cache()) as folder:
        yield Path(folder)


def single(folder: Path, tiny: bool) -> Results:
    """TI2V-5B: opening and loading from the disk and from memory, steps in each mode."""
    (written,) = _files(folder, {"ti2v-5b-Q4_K_M": 0}, files.ti2v_5b(tiny), files.write_wan)
    _check("TI2V-5B Q4_K_M", written.nbytes, files.PUBLISHED["ti2v-5b"], tiny)
    found: Results = {"file_bytes": written.nbytes}
    if hasattr(os, "posix_fadvise"):
        _drop_from_memory(written.path)
        found["cold"] = _child("load", [written.path], tiny)
    for mode in MODES:
        found[mode] = _child("video", [written.path], tiny, mode)
    return found


def encoder(folder: Path, tiny: bool) -> Results:
    """UMT5-XXL: one prompt."""
    (written,) = _files(folder, {"umt5-xxl-Q5_K_M": 0}, files.umt5_xxl(tiny), files.write_umt5)
    _check("UMT5-XXL Q5_K_M, data", written.data_bytes, files.PUBLISHED["umt5-xxl data"], tiny)
    found = {"file_bytes": written.nbytes, "data_bytes": written.data_bytes}
    return {**found, **_child("encoder", [written.path], tiny)}


def pair(folder: Path, tiny: bool) -> Results:
    """Both experts of A14B: a step of each in one run."""
    seeds = {"a14b-high-noise-Q4_K_M": 1, "a14b-low-noise-Q4_K_M": 2}
    written = _files(folder, seeds, files.a14b(tiny), files.write_wan)
    for one in written:
        _check("A14B Q4_K_M", one.nbytes, files.PUBLISHED["a14b"], tiny)
    return {"file_bytes": written[0].nbytes, **_child("pair", [one.path for one in written], tiny)}


PARTS: dict[str, Callable[[Path, bool], Results]] = {"5b": single, "umt5": encoder, "a14b": pair}


def _files(folder: Path, seeds: dict[str, int], tensors: files.Tensors, write: Callable) -> list[files.Written]:
    """The files of these names; one that a run with `--keep` left is taken if it is whole."""
    data_bytes = files.total_bytes(tensors)
    paths = {folder / f"{name}.gguf": seed for name, seed in seeds.items()}
    missing = {path: seed for path, seed in paths.items() if not _is_whole(path, data_bytes)}
    if missing:
        _check_disk(folder, len(missing) * (data_bytes + HEAD_BYTES) + SPARE_BYTES)
    for path, seed in missing.items():
        begin = time.perf_counter()
        part = path.with_suffix(".part")
        try:
            write(part, tensors, seed)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        say(f"{path.name}: {path.stat().st_size} bytes written in {time.perf_counter() - begin:.0f} s")
    return [files.Written.found(path) for path in paths]


def _is_whole(path: Path, data_bytes: int) -> bool:
    return path.is_file() and data_bytes < path.stat().st_size < data_bytes + HEAD_BYTES


def _check_disk(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(
            f"{folder}: the disk has {free / 1e9:.1f} GB free; {needed / 1e9:.1f} GB are needed; make room, choose "
            "another disk with --keep DIR, or fewer parts with --only"
        )


def _check(what: str, nbytes: int, published: int, tiny: bool) -> None:
    if not tiny and nbytes != published:
        raise OSError(f"{what}: {nbytes} bytes were written, the published file has {published}; the shapes differ")


def _drop_from_memory(path: Path) -> None:
    """The file's pages leave the system's cache, so that the next reader finds them on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _child(part: str, paths: list[Path], tiny: bool, mode: str = "exact") -> Results:
    """What full_size_child.py measures. Raises ChildProcessError."""
    say(f"{part} {' '.join(path.name for path in paths)}, {mode}")
    command = [sys.executable, CHILD, part, *paths, "--mode", mode, *(["--tiny"] if tiny else [])]
    done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, encoding="utf-8")
    if done.returncode < 0:
        raise ChildProcessError(
            f"{part}: the process was ended by signal {-done.returncode}; signal 9 comes from a system without memory"
        )
    if done.returncode:
        raise ChildProcessError(f"{part}: the process ended with exit code {done.returncode}; its message is above")
    return json.loads(done.stdout.splitlines()[-1])

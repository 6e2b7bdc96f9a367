"""What `convert.py` measures: the command in a process of its own, and libgguf on weights that are in memory already.

The quantiser's time for the whole file is reckoned from its rate for each type, measured before and after the
conversion on SAMPLE_WEIGHTS weights; it uses every core by itself. What the command takes beyond it is reading,
widening BF16, hashing the source and writing.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import libgguf
import numpy as np
from gguf import GGMLQuantizationType

from wan_gguf.benchmarks import machine
from wan_gguf.benchmarks.results import Results, say
from wan_gguf.benchmarks.shapes import Shape
from wan_gguf.cli.paths import CLI, user_cache
from wan_gguf.convert.container import PlannedTensor, safetensors_layout
from wan_gguf.convert.ggml_types import PLAIN
from wan_gguf.convert.plan import Plan, plan_gguf
from wan_gguf.convert.source import open_source
from wan_gguf.loaders.wan_config import wan_shapes

STD = 0.02
PIECE_ELEMENTS = 1 << 22
SAMPLE_WEIGHTS = 1 << 25
INTERVAL_S = 0.02


def run(options: argparse.Namespace) -> Results:
    """Plain numbers, ready for JSON."""
    say(", ".join(f"{name} {value}" for name, value in machine.describe().items()))
    config = Shape.of(options.tiny, options.layers).config
    # not the system's folder for temporary files, which may be kept in memory
    user_cache().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="convert-", dir=user_cache()) as folder:
        source, target = Path(folder, "ti2v-5b-bf16.safetensors"), Path(folder, "ti2v-5b.gguf")
        say("writing the source")
        write_source(source, config)
        plan = plan_gguf(open_source(source), options.type)
        before = library_rates(plan)
        say("converting")
        made = _convert(source, target, options.type)
        rates = {name: statistics.mean([before[name], after]) for name, after in library_rates(plan).items()}
        weights = _weights(plan)
        library_s = sum(count / rates[name] for name, count in weights.items())
        return {
            "source_bytes": source.stat().st_size,
            "target_bytes": target.stat().st_size,
            "type": options.type,
            **made,
            "source_mb_per_s": source.stat().st_size / 1e6 / made["seconds"],
            "library_s": library_s,
            "time_vs_library": made["seconds"] / library_s,
            "library_weights_per_s": rates,
            "largest_tensor_bytes": max(2 * math.prod(tensor.shape) for tensor in plan.tensors),
            "machine": machine.describe(),
        }


def write_source(path: Path, config: dict) -> None:
    """The transformer's tensors in BF16 under official names, normal numbers, every byte written."""
    tensors = [PlannedTensor(name, name, "BF16", shape) for name, shape in wan_shapes(config).items()]
    rng = np.random.default_rng(0)
    with path.open("wb") as file:
        file.write(safetensors_layout(tensors, {}).head)
        for tensor in tensors:
            left = math.prod(tensor.shape)
            while left:
                n = min(left, PIECE_ELEMENTS)
                numbers = rng.standard_normal(n, dtype=np.float32) * np.float32(STD)
                file.write((numbers.view(np.uint32) >> 16).astype(np.uint16).data)
                left -= n


def _weights(plan: Plan) -> dict[str, int]:
    """{quantised type: weights of the plan in it}."""
    found: dict[str, int] = {}
    for tensor in plan.tensors:
        if tensor.type_name not in PLAIN:
            found[tensor.type_name] = found.get(tensor.type_name, 0) + math.prod(tensor.shape)
    return found


def library_rates(plan: Plan) -> dict[str, float]:
    """{quantised type of the plan: weights a second of libgguf with its own threads}."""
    rates = {}
    for name, count in _weights(plan).items():
        k = next(tensor.shape[-1] for tensor in plan.tensors if tensor.type_name == name)
        rows = np.random.default_rng(1).standard_normal((min(SAMPLE_WEIGHTS, count) // k, k), dtype=np.float32)
        rows *= np.float32(STD)
        kind = int(GGMLQuantizationType[name])
        packed = np.empty((rows.shape[0], libgguf.row_size(kind, k)), np.uint8)
        begin = time.perf_counter()
        libgguf.quantize_rows_into_raw(kind, rows, packed, *rows.shape)
        rates[name] = rows.size / (time.perf_counter() - begin)
    return rates


def _convert(source: Path, target: Path, file_type: str) -> Results:
    """The command as a user runs it: seconds from start to end, what it reports, and the most memory it held."""
    command = [sys.executable, str(CLI), "convert", str(source), str(target), "--type", file_type, "--json"]
    begin = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as child:
        memory = _Memory(child)
        try:
            printed, _ = child.communicate()
        except BaseException:
            child.terminate()
            raise
        finally:
            memory.end()
    if child.returncode:
        raise ChildProcessError(f"the conversion ended with exit code {child.returncode}")
    reported = json.loads(printed)
    return {"seconds": time.perf_counter() - begin, "writing_s": reported.get("seconds"), **memory.peaks}


class _Memory:
    """The most anonymous and altogether resident memory of a child, looked at by a thread; empty where /proc is not."""

    def __init__(self, child: subprocess.Popen):
        self.peaks: dict[str, int] = {}
        self._status = Path(f"/proc/{child.pid}/status")
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(INTERVAL_S):
            self._look()

    def _look(self) -> None:
        try:
            fields = dict(line.split(":", 1) for line in self._status.read_text().splitlines())
        except OSError:
            return
        for key, name in (("peak_anon_bytes", "RssAnon"), ("peak_rss_bytes", "VmRSS")):
            if name in fields:
                self.peaks[key] = max(self.peaks.get(key, 0), int(fields[name].split()[0]) * 1024)


def table(results: Results) -> str:
    """The results in Markdown."""
    rows = {
        f"source, BF16 -> {results['type']}": f"{results['source_bytes']:,} -> {results['target_bytes']:,} bytes",
        "time": f"{results['seconds']:.0f} s, {results['source_mb_per_s']:.0f} MB of source a second",
        "libgguf alone, weights in memory, its own threads": f"{results['library_s']:.0f} s",
        "time over libgguf's": f"{results['time_vs_library']:.2f}",
        "peak memory, anonymous / with mapped pages": " / ".join(
            f"{results[key] / 1e6:.0f} MB" if key in results else "unknown"
            for key in ("peak_anon_bytes", "peak_rss_bytes")
        ),
        "largest tensor of the source": f"{results['largest_tensor_bytes'] / 1e6:.0f} MB",
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])

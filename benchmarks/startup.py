"""What the first forward of a process costs beyond a warm one: `python3 benchmarks/startup.py exact` is that process.

The parent runs it twice with the same empty cache folder: as after installing, and as after a restart.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "reference_model"))
    import environment

    environment.enter(__file__)

import torch

from wan_gguf.benchmarks import child, models
from wan_gguf.benchmarks.machine import DTYPES
from wan_gguf.benchmarks.results import Results, say
from wan_gguf.benchmarks.shapes import FRAMES, Inputs, Shape
from wan_gguf.benchmarks.weights import wan_weights
from wan_gguf.ops.dispatch import MODES

WARM = 2
# Where compiled kernels may be kept: this pack's cache folder, and those of compilers that come with torch or Python.
CACHES = ("WAN_GGUF_CACHE", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR")


def after_install_and_restart(setting: child.Setting) -> tuple[float, float]:
    """Seconds of the first forward beyond a warm one: with empty caches, then with what that run left in them."""
    with tempfile.TemporaryDirectory(prefix="wan-gguf-") as folder:
        variables = {name: str(Path(folder, name)) for name in CACHES}
        for path in variables.values():
            Path(path).mkdir()
        runs = [child.run(__file__, setting, **variables) for _ in range(2)]
    return runs[0]["first_s"] - runs[0]["warm_s"], runs[1]["first_s"] - runs[1]["warm_s"]


def part(options: argparse.Namespace, results: Results) -> None:
    """Both starts in each mode."""
    for mode in MODES:
        say(f"first forward of a process, {mode}")
        try:
            installed, restarted = after_install_and_restart(child.Setting.of(options, mode, min(FRAMES)))
        except ChildProcessError as failure:
            results["skipped"][f"startup {mode}"] = str(failure)
        else:
            results["startup"][mode] = {"after_install_s": installed, "after_restart_s": restarted}


def measure(setting: child.Setting) -> dict[str, float]:
    """Run in the process that is measured."""
    shape = Shape.of(setting.tiny, setting.layers)
    dtype = DTYPES[setting.dtype]
    tensors = wan_weights(shape.config, setting.recipe)
    inputs = Inputs.random(shape, FRAMES[setting.tokens], dtype)
    seconds = []
    with torch.inference_mode():
        model = models.packed_model(shape, tensors, dtype, setting.what)
        for _ in range(1 + WARM):
            begin = time.perf_counter()
            models.packed_forward(model, inputs)
            seconds.append(time.perf_counter() - begin)
    return {"first_s": seconds[0], "warm_s": statistics.median(seconds[1:])}


if __name__ == "__main__":
    print(json.dumps(measure(child.parse(MODES, "What the first forward costs beyond a warm one."))))

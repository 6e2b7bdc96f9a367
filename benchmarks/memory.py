"""Peak anonymous memory of one forward, in a process of its own: `python3 benchmarks/memory.py exact`.

Printed: the bytes the forward needs at its peak above what is resident before it. What a forward needs for activations
alone is measured as `activations`: the same model, whose linear layers only return a tensor of the right shape.
Linux only: the peak is VmHWM of /proc/self/status, set back through /proc/self/clear_refs, less pages of files.
"""

import argparse
import ctypes
import gc
import json
import sys
from collections.abc import Callable
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

ACTIVATIONS = "activations"
CLEAR_REFS = Path("/proc/self/clear_refs")
RESET_PEAK = "5"


def unavailable() -> str | None:
    """Why this machine cannot measure it, or None."""
    try:
        CLEAR_REFS.write_text(RESET_PEAK)
    except OSError as reason:
        return f"peak memory needs Linux with a writable {CLEAR_REFS} ({reason})"
    return None


def peak_bytes(call: Callable[[], object]) -> int:
    """The most anonymous memory during `call` beyond that before it."""
    gc.collect()
    _return_free_memory()
    CLEAR_REFS.write_text(RESET_PEAK)
    before = _status("RssAnon")
    call()
    return _status("VmHWM") - _status("RssFile") - _status("RssShmem") - before


def largest_layer_bytes(shape: Shape, dtype: torch.dtype) -> int:
    """Size of the largest weight of a block, decoded."""
    return shape.config["dim"] * shape.config["ffn_dim"] * dtype.itemsize


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def _return_free_memory() -> None:
    """What the allocator keeps would hide a part of the peak."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim is not None:
        trim(0)


def _activations_only(model: models.WanModel) -> None:
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            setattr(module, "forward", _zeros(module.out_features))  # noqa: B010 (a method, to a type checker)


def _zeros(n: int) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda x: x.new_empty((*x.shape[:-1], n)).zero_()  # written to, so resident


def part(options: argparse.Namespace, results: Results) -> None:
    """Peaks for every number of tokens: activations alone, and each mode."""
    reason = unavailable()
    if reason:
        results["skipped"]["memory"] = reason
        return
    for tokens in options.tokens:
        measured = results["memory"][str(tokens)] = {}
        for what in (ACTIVATIONS, *MODES):
            say(f"memory of a forward, {tokens} tokens, {what}")
            try:
                measured[what] = child.run(__file__, child.Setting.of(options, what, tokens))
            except ChildProcessError as failure:
                results["skipped"][f"memory {what}"] = str(failure)


def measure(setting: child.Setting) -> dict[str, int]:
    """Run in the process that is measured."""
    shape = Shape.of(setting.tiny, setting.layers)
    dtype = DTYPES[setting.dtype]
    tensors = wan_weights(shape.config, setting.recipe)
    with torch.inference_mode():
        if setting.what == ACTIVATIONS:
            model = models.native_model(shape, tensors, dtype)
            _activations_only(model)
        else:
            model = models.packed_model(shape, tensors, dtype, setting.what)
        few = Inputs.random(Shape(shape.config, (2, 2)), 1, dtype)
        models.packed_forward(model, few)  # loads what is loaded once
        inputs = Inputs.random(shape, FRAMES[setting.tokens], dtype)
        peak = peak_bytes(lambda: models.packed_forward(model, inputs))
    return {"peak_bytes": peak, "largest_layer_bytes": largest_layer_bytes(shape, dtype)}


if __name__ == "__main__":
    print(json.dumps(measure(child.parse((ACTIVATIONS, *MODES), "Peak anonymous memory of one forward."))))

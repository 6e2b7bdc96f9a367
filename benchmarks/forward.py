"""A forward of a TI2V-5B-shaped transformer, ours beside the host's dense one and other packed ones.

As a script it tells where the time goes: `python3 benchmarks/forward.py --profile` prints torch's table of operations
and the shares of the model's parts, for our layers (`--model exact`, `int8`) or the host's dense ones (`native`).
"""

import argparse
import gc
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "reference_model"))
    import environment

    environment.enter(__file__)

import torch

from wan_gguf.benchmarks import models, parts, peer_comfyui_gguf, peer_diffusers
from wan_gguf.benchmarks.linear import relative_error
from wan_gguf.benchmarks.machine import DTYPES, exact_dtype, wants_dense_bf16
from wan_gguf.benchmarks.results import Results, in_words, say, times
from wan_gguf.benchmarks.shapes import FRAMES, Inputs, Shape
from wan_gguf.benchmarks.timing import interleaved
from wan_gguf.benchmarks.weights import RECIPES, wan_weights
from wan_gguf.ops.dispatch import MODES
from wan_gguf.ops.packed import PackedWeight

SUMMARY = "where a forward's time goes on the CPU, with --profile"
NO_NATIVE_BF16 = "this CPU has no bf16 instructions, so dense bf16 would take minutes; --native-bf16 always measures it"
Run = Callable[[Inputs], torch.Tensor]
Weights = Mapping[str, PackedWeight]


def ours(shape: Shape, tensors: Weights, dtype: torch.dtype, mode: str) -> Run:
    """The host's model of our layers."""
    model = models.packed_model(shape, tensors, dtype, mode)
    return lambda inputs: models.packed_forward(model, inputs)


def native(shape: Shape, tensors: Weights, dtype: torch.dtype) -> Run:
    """The host's model of its own dense layers."""
    model = models.native_model(shape, tensors, dtype)
    return lambda inputs: models.native_forward(model, inputs)


def contenders(
    shape: Shape, tensors: Weights, dtype_name: str, natives: Iterable[str], options: argparse.Namespace | None
) -> dict[str, tuple[str, Run]]:
    """Name -> (dtype, call). Other programs' are there if `options`, which say where, are given."""
    dtype = DTYPES[dtype_name]
    made = {mode: (dtype_name, ours(shape, tensors, dtype, mode)) for mode in MODES}
    made |= {name: (name, native(shape, tensors, DTYPES[name])) for name in natives}
    if options and peer_diffusers.is_installed():
        made["diffusers"] = (dtype_name, peer_diffusers.forward(shape, tensors, dtype))
    if options and options.comfyui_gguf:
        ops = peer_comfyui_gguf.load(options.comfyui_gguf)
        made["comfyui_gguf"] = (dtype_name, peer_comfyui_gguf.forward(ops, shape, tensors, dtype))
    return made


def measure(shape: Shape, frames: int, runs: Mapping[str, tuple[str, Run]], rounds: int) -> Results:
    """Times, and the relative difference of every output from the most exact dense one."""
    inputs = {name: Inputs.random(shape, frames, DTYPES[name]) for name in {dtype for dtype, _ in runs.values()}}
    calls = {name: lambda run=run, dtype=dtype: run(inputs[dtype]) for name, (dtype, run) in runs.items()}
    outputs = {name: call() for name, call in calls.items()}  # warms up, too
    reference = outputs["fp32"] if "fp32" in outputs else outputs["bf16"]
    differences = {name: relative_error(y, reference) for name, y in outputs.items()}
    return {**times(interleaved(calls, rounds)), "differences": differences}


@torch.inference_mode()
def part(options: argparse.Namespace, results: Results) -> None:
    """Every recipe with every number of tokens; dense fp32 and other programs with the first recipe only."""
    with_bf16 = _dense_bf16(options.native_bf16, results)
    shape = Shape.of(options.tiny, options.layers)
    for recipe in options.recipes:
        first = recipe == options.recipes[0]
        natives = [name for name, wanted in (("bf16", with_bf16), ("fp32", first or not with_bf16)) if wanted]
        tensors = wan_weights(shape.config, recipe)
        runs = contenders(shape, tensors, results["dtype"], natives, options if first else None)
        for tokens in options.tokens:
            record = {"recipe": recipe, "tokens": tokens, "layers": shape.config["num_layers"]}
            record |= measure(shape, FRAMES[tokens], runs, options.rounds)
            results["forwards"].append(record)
            say(f"forward, {recipe}, {tokens} tokens: {in_words(record)}")
        del runs, tensors
        gc.collect()


def _dense_bf16(wanted: str, results: Results) -> bool:
    """Whether the dense bf16 forwards are measured; if not, why."""
    if wants_dense_bf16(wanted):
        return True
    reason = NO_NATIVE_BF16 if wanted == "auto" else "--native-bf16 never"
    results["skipped"]["forward bf16"] = reason
    say(f"dense bf16 forwards left out: {reason}")
    return False


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python3 benchmarks/forward.py", description="Where a forward's time goes.")
    made.add_argument("--profile", action="store_true", required=True, help="print the tables")
    made.add_argument("--model", choices=(*MODES, "native"), default="exact", help="default: exact")
    made.add_argument("--recipe", choices=RECIPES, default="Q4_K", help="types of the weights (default: Q4_K)")
    made.add_argument("--dtype", choices=("auto", *DTYPES), default="auto", help="what it computes in (default: auto)")
    made.add_argument("--tokens", type=int, choices=FRAMES, default=390, help="default: 390")
    made.add_argument("--layers", type=int, default=4, help="of the model's 30 (default: 4)")
    return made


def profile(options: argparse.Namespace) -> str:
    """The two tables."""
    shape = Shape.real(options.layers)
    tensors = wan_weights(shape.config, options.recipe)
    dtype = DTYPES[exact_dtype(options.dtype)]
    is_native = options.model == "native"
    build = models.native_model if is_native else models.packed_model
    model = build(shape, tensors, dtype, *(() if is_native else (options.model,)))
    call = models.native_forward if is_native else models.packed_forward
    inputs = Inputs.random(shape, FRAMES[options.tokens], dtype)
    with torch.inference_mode():
        call(model, inputs)
        return parts.profile(model, lambda: call(model, inputs))


if __name__ == "__main__":
    print(profile(parser().parse_args()))

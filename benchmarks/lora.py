"""What LoRAs cost beside the packed weights: layers and a forward of a TI2V-5B shape with one and three of rank 64.

`COMFYUI_DIR=... python3 benchmarks/lora.py` prints one line per case: the time without a LoRA, and how many times as
long it takes with one, with three, and with three that are multiplied one after the other, as they were before their
ranks were joined (layers only). The LoRAs are bf16, as published ones are.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "reference_model"))
    import environment

    environment.enter(__file__)

import numpy as np
import torch

from wan_gguf.benchmarks import models
from wan_gguf.benchmarks.machine import DTYPES, exact_dtype
from wan_gguf.benchmarks.shapes import FRAMES, Inputs, Shape
from wan_gguf.benchmarks.timing import Samples, interleaved
from wan_gguf.benchmarks.weights import STD, random_packed, wan_weights
from wan_gguf.host.operations import PackedWeightMixin, packed_operations
from wan_gguf.host.patches import PackedPatch
from wan_gguf.host.side_path import side_path
from wan_gguf.ops.dispatch import MODES

from comfy.weight_adapter.lora import LoRAAdapter  # isort: skip  (models puts the host on the path)

RANK = 64
LAYERS = ((14336, 3072), (3072, 14336), (3072, 3072))  # (n, k): ffn.0, ffn.2, attention
COUNTS = {"none": 0, "one": 1, "three": 3}


def loras(count: int, n: int, k: int) -> list[PackedPatch]:
    """Random LoRAs for a weight (n, k), with Lightning's scale of 1/8."""
    generator = torch.Generator().manual_seed(count)
    made = []
    for _ in range(count):
        up = (torch.randn(n, RANK, generator=generator) * STD).bfloat16()
        down = (torch.randn(RANK, k, generator=generator) * STD).bfloat16()
        adapter = LoRAAdapter(set(), (up, down, RANK / 8, None, None, None))
        made.append(PackedPatch("weight", (1.0, adapter, 1.0, None, None), (n, k)))
    return made


def layer_calls(n: int, k: int, tokens: int, mode: str, dtype: torch.dtype) -> dict[str, Callable[[], torch.Tensor]]:
    """One layer on the same packed weight with each number of LoRAs."""
    packed, x = random_packed("Q4_K", (n, k), np.random.default_rng(0)), torch.randn(1, tokens, k).to(dtype)
    calls = {}
    for name, count in COUNTS.items():
        layer = packed_operations(mode).Linear(k, n, bias=False)
        layer.hold(packed, dtype)
        layer.weight_function = loras(count, n, k)
        calls[name] = lambda layer=layer: layer(x)
    plain, apart = calls["none"], [side_path([patch], x.device) for patch in loras(3, n, k)]

    def one_after_the_other() -> torch.Tensor:
        y = plain()
        for path in apart:
            y = path.add_to(y, x)
        return y

    return calls | {"three apart": one_after_the_other}


def forward_calls(tokens: int, layers: int, mode: str, dtype: torch.dtype) -> dict[str, Callable[[], torch.Tensor]]:
    """The model with each number of LoRAs on every matmul of its blocks, as in Lightning files."""
    shape = Shape.real(layers)
    tensors, inputs = wan_weights(shape.config, "Q4_K"), Inputs.random(shape, FRAMES[tokens], dtype)
    calls = {}
    for name, count in COUNTS.items():
        model = models.packed_model(shape, tensors, dtype, mode)
        for module in model.blocks.modules():
            if isinstance(module, PackedWeightMixin):
                module.weight_function = loras(count, *module.packed.shape)
        calls[name] = lambda model=model: models.packed_forward(model, inputs)
    return calls


def line(case: str, samples: Samples) -> str:
    """ "case: 0.2 s, one x1.03, three x1.08"."""
    names = [name for name in samples.seconds if name != "none"]
    ratios = ", ".join(f"{name} x{samples.time_ratio(name, 'none'):.3f}" for name in names)
    return f"{case}: {samples.median('none'):.3g} s, {ratios}"


def measure(case: str, calls: dict[str, Callable[[], torch.Tensor]], rounds: int) -> None:
    """Print the case's line."""
    for call in calls.values():  # warms up
        call()
    print(line(case, interleaved(calls, rounds)), flush=True)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python3 benchmarks/lora.py", description="What LoRAs of rank 64 cost.")
    made.add_argument("--tokens", type=int, choices=FRAMES, default=390, help="default: 390")
    made.add_argument("--layers", type=int, default=2, help="of the forward's model (default: 2)")
    made.add_argument("--rounds", type=int, default=9, help="default: 9")
    made.add_argument("--modes", choices=MODES, nargs="+", default=list(MODES), help="default: all")
    return made


@torch.inference_mode()
def main(options: argparse.Namespace) -> None:
    """Print every case."""
    name = exact_dtype()
    for mode in options.modes:
        for n, k in LAYERS:
            case = f"layer {k}->{n} Q4_K, {options.tokens} tokens, {name}, {mode}"
            measure(case, layer_calls(n, k, options.tokens, mode, DTYPES[name]), options.rounds)
        case = f"forward of {options.layers} layers, {options.tokens} tokens, {name}, {mode}"
        measure(case, forward_calls(options.tokens, options.layers, mode, DTYPES[name]), options.rounds)


if __name__ == "__main__":
    main(parser().parse_args())

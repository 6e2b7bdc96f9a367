"""Linear layers, ours in both modes beside dense and other packed ones; and the errors of ours.

Weights come from `weights.py`, activations are normal with 8 channels 20 times as large as the others, as video
transformers have them. The reference of the errors is float32 on the decoded weight, with the activations unrounded.
"""

import argparse
import importlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

from wan_gguf.benchmarks import peer_diffusers, peer_ggml
from wan_gguf.benchmarks.machine import DTYPES, wants_dense_bf16
from wan_gguf.benchmarks.results import Results, in_words, say, times
from wan_gguf.benchmarks.timing import interleaved
from wan_gguf.benchmarks.weights import random_packed
from wan_gguf.ops.dequantize import dequantize
from wan_gguf.ops.dispatch import MODES, choose_linear
from wan_gguf.ops.linear import linear
from wan_gguf.ops.packed import PackedWeight
from wan_gguf.ops.row_scales import row_scales

OUTLIER_CHANNELS, OUTLIER_FACTOR = 8, 20.0
BUDGET_S = 8.0  # per case; three rounds in any case
QUICK_TOTAL_S = 15.0  # no further case begins after that
Call = Callable[[], torch.Tensor]


@dataclass(frozen=True)
class Case:
    """A weight (n, k) of a GGML type, and how many tokens are multiplied by it."""

    model: str
    type_name: str
    n: int
    k: int
    tokens: int

    def __str__(self) -> str:
        return f"{self.model} {self.type_name} {self.k}->{self.n}, {self.tokens} tokens"


HEADLINE = Case("TI2V-5B", "Q4_K", 14336, 3072, 390)
TINY = Case("tiny", "Q4_K", 512, 256, 6)
# Ordered by what they tell: a run with little time measures the first ones.
CASES = (
    HEADLINE,
    Case("TI2V-5B", "Q4_K", 3072, 14336, 390),
    Case("A14B", "Q4_K", 13824, 5120, 390),
    Case("A14B", "Q4_K", 5120, 13824, 390),
    Case("TI2V-5B", "Q8_0", 14336, 3072, 390),
    Case("TI2V-5B", "Q6_K", 3072, 14336, 390),
    Case("TI2V-5B", "Q4_K", 3072, 3072, 390),
    Case("A14B", "Q4_K", 5120, 5120, 390),
    Case("TI2V-5B", "Q4_K", 14336, 3072, 1950),
    Case("TI2V-5B", "Q8_0", 14336, 3072, 1950),
    Case("A14B", "Q4_K", 13824, 5120, 1950),
)


@dataclass(frozen=True)
class Operands:
    """x (tokens, k) float32, the packed weight (n, k) with its row scales, bias (n,) float32."""

    x: torch.Tensor
    packed: PackedWeight
    bias: torch.Tensor

    @classmethod
    def random(cls, case: Case) -> "Operands":
        """The same operands in every run."""
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(case.tokens, case.k, generator=generator)
        x[:, torch.randperm(case.k, generator=generator)[:OUTLIER_CHANNELS]] *= OUTLIER_FACTOR
        packed = random_packed(case.type_name, (case.n, case.k), np.random.default_rng(0))
        bias = 0.02 * torch.randn(case.n, generator=generator)
        return cls(x, replace(packed, row_scale=row_scales(packed)), bias)


def ours(operands: Operands, mode: str, dtype: torch.dtype) -> Call:
    """The pack's linear layer."""
    x, bias = operands.x.to(dtype), operands.bias.to(dtype)
    return lambda: linear(x, operands.packed, bias, mode)


def dense(operands: Operands, dtype: torch.dtype) -> Call:
    """torch's own, on a weight that is kept decoded."""
    x, bias, weight = operands.x.to(dtype), operands.bias.to(dtype), dequantize(operands.packed, dtype)
    return lambda: F.linear(x, weight, bias)


def peers(operands: Operands, dtype: torch.dtype, options: argparse.Namespace) -> dict[str, Call]:
    """The other programs' that are there, computing in `dtype`; ggml's kernels round activations to 8 bits."""
    x, bias, layers = operands.x.to(dtype), operands.bias.to(dtype), {}
    if peer_diffusers.is_installed():
        layers["diffusers"] = peer_diffusers.linear(operands.packed, bias, dtype)
    if options.comfyui_gguf:
        peer = importlib.import_module("wan_gguf.benchmarks.peer_comfyui_gguf")  # needs the host
        layers["comfyui_gguf"] = peer.linear(peer.load(options.comfyui_gguf), operands.packed, bias, dtype)
    calls: dict[str, Call] = {name: lambda layer=layer: layer(x) for name, layer in layers.items()}
    if options.sd_cpp:
        calls["ggml"] = peer_ggml.Linear(peer_ggml.load(options.sd_cpp), operands.packed, operands.bias, operands.x)
    return calls


def relative_error(y: torch.Tensor, reference: torch.Tensor) -> float:
    """|y - reference| / |reference|, over all elements."""
    return float((y.float() - reference.float()).norm() / reference.float().norm())


@torch.inference_mode()
def part(options: argparse.Namespace, results: Results) -> None:
    """Measure the cases; the first one is the headline."""
    cases = (TINY,) if options.tiny else CASES
    begin = time.perf_counter()
    for case in cases:
        if options.quick and time.perf_counter() - begin > QUICK_TOTAL_S:
            results["skipped"][str(case)] = "--quick"
            continue
        operands = Operands.random(case)
        if case == cases[0]:
            results["kernels"] = _kernels(operands, results["dtype"])
        dense_dtypes = DTYPES if case == cases[0] or wants_dense_bf16(options.native_bf16) else ("fp32",)
        record = {"case": str(case), **_measure(operands, results["dtype"], dense_dtypes, options)}
        results["linears"].append(record)
        say(f"{case}: {in_words(record)}")


def _measure(operands: Operands, dtype_name: str, dense_dtypes: Iterable[str], options: argparse.Namespace) -> Results:
    """Times and errors; `errors_bf16` are those of ours in bf16, whatever this machine would compute in."""
    dtype = DTYPES[dtype_name]
    calls = {mode: ours(operands, mode, dtype) for mode in MODES}
    calls |= {name: dense(operands, DTYPES[name]) for name in dense_dtypes}
    calls |= peers(operands, dtype, options)
    reference = calls["fp32"]()
    errors = {name: relative_error(call(), reference) for name, call in calls.items()}  # warms up, too
    in_bf16 = {mode: errors[mode] for mode in MODES}
    if dtype != torch.bfloat16:
        in_bf16 = {mode: relative_error(ours(operands, mode, torch.bfloat16)(), reference) for mode in MODES}
    return {**times(interleaved(calls, budget_s=BUDGET_S)), "errors": errors, "errors_bf16": in_bf16}


def _kernels(operands: Operands, dtype_name: str) -> dict[str, str]:
    """Mode -> the kernel that runs and why others do not."""
    x = operands.x.to(DTYPES[dtype_name])
    return {mode: choose_linear(x, operands.packed, operands.bias, mode).explain() for mode in MODES}

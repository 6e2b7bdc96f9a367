"""The Triton backend on this machine's GPU: `python benchmarks/gpu.py [--json FILE] [--quick]`.

First every kernel is checked against the pure torch reference; a kernel that is wrong ends the program with exit code
1 before anything is timed. Then, all medians of interleaved samples with a cold L2 cache (gpu_clock.py):

* decoding one 14336 x 3072 weight of each format, in GB/s read and written, and as a share of a plain copy's;
* linear layers of Wan 2.2 in both modes, against a kept 16-bit weight and torch's own GEMM;
* where the time of one int8 layer goes.

It needs torch, triton and numpy, and takes less than eight minutes; what did not fit into them is left out and said.
Without a CUDA or ROCm device it says so and exits with 2.
"""

import argparse
import importlib.util
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812

ROOT = Path(__file__).resolve().parent.parent
LIMIT_S = 7.5 * 60
SHAPES = [(3072, 14336), (14336, 3072), (5120, 13824), (5120, 5120)]  # k, n: TI2V-5B's and A14B's layers
TOKENS = [1, 16, 512, 4096, 32768]
FORMATS_TIMED = ["Q4_K", "Q8_0"]
EAGER_AT = (512, 4096)  # numbers of tokens at which decoding by torch operations is timed as well


def register_pack() -> None:
    """Make the folder above importable as `wan_gguf`, whatever its name is, and not as loose modules."""
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]
    spec = importlib.util.spec_from_file_location(
        "wan_gguf", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    sys.modules["wan_gguf"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["wan_gguf"])


if "wan_gguf" not in sys.modules:
    register_pack()

import gpu_checks
from gpu_clock import Clock, copy_bytes_per_s

from wan_gguf.ops.backends.reference import linear as torch_linear
from wan_gguf.ops.backends.triton import activations, decode_int8, int8_epilogue, language
from wan_gguf.ops.backends.triton.formats import FUNCTIONS
from wan_gguf.ops.dequantize import dequantize_into
from wan_gguf.ops.dispatch import choose_linear
from wan_gguf.ops.int8 import MIN_TOKENS
from wan_gguf.ops.linear import linear
from wan_gguf.ops.packed import PackedWeight
from wan_gguf.ops.row_scales import row_scales

Row = dict[str, object]


class Bench:
    """What all parts need: the device, its clock, its 16-bit type, and how much time is left."""

    def __init__(self, device: torch.device, quick: bool):
        self.device, self.quick, self.began = device, quick, time.monotonic()
        self.clock = Clock(device)
        native = device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)
        self.dtype = torch.bfloat16 if native else torch.float16
        self.left_out: list[str] = []

    def has_time(self, what: str) -> bool:
        """False, noted, when the program's time is used up."""
        if time.monotonic() - self.began < LIMIT_S:
            return True
        self.left_out.append(what)
        return False

    def budget_s(self) -> float:
        """Seconds for the samples of one case."""
        return 0.3 if self.quick else 1.5

    def weight(self, name: str, n: int, k: int) -> PackedWeight:
        """Random, on the device, with its row scales, as a loaded model has it."""
        packed = gpu_checks.random_weight(name, n, k).to(self.device)
        return PackedWeight(packed.data, packed.format, packed.shape, row_scales(packed))


def time_decode(bench: Bench, copy_rate: float, n: int = 14336, k: int = 3072) -> list[Row]:
    """One row per format: bytes read and written per second."""
    out = torch.empty((n, k), dtype=bench.dtype, device=bench.device)
    rows = []
    for name in FUNCTIONS:
        if not bench.has_time(f"decode {name}"):
            continue
        packed = bench.weight(name, n, k)
        contenders = {
            "16-bit": lambda packed=packed: dequantize_into(out, packed),
            "int8": lambda packed=packed: decode_int8.decode_int8(packed, packed.row_scale),
        }
        seconds = bench.clock.medians(contenders, bench.budget_s() / 3)
        row: Row = {"format": name}
        for kind, out_bytes in (("16-bit", out.nbytes), ("int8", n * k)):
            took = seconds[kind]
            rate = (packed.nbytes + out_bytes) / took if took else None
            row |= {f"{kind} ms": ms(took), f"{kind} GB/s": rate and round(rate / 1e9), f"{kind} share of copy": None}
            if rate:
                row[f"{kind} share of copy"] = round(rate / copy_rate, 2)
        rows.append(row)
    return rows


def layer(bench: Bench, k: int, n: int, m: int) -> dict[str, Callable[[], object]]:
    """The contenders for one linear layer."""
    generator = torch.Generator(bench.device).manual_seed(0)
    x = torch.randn((m, k), generator=generator, dtype=bench.dtype, device=bench.device)
    kept = torch.randn((n, k), generator=generator, dtype=bench.dtype, device=bench.device)
    contenders: dict[str, Callable[[], object]] = {"16-bit kept": lambda: F.linear(x, kept)}
    for name in FORMATS_TIMED[: 1 if bench.quick else None]:
        packed = bench.weight(name, n, k)
        contenders[f"{name} exact"] = lambda packed=packed: linear(x, packed)
        if m >= MIN_TOKENS:
            contenders[f"{name} int8"] = lambda packed=packed: linear(x, packed, mode="int8")
        if m in EAGER_AT and name == FORMATS_TIMED[0]:
            contenders[f"{name} by torch"] = lambda packed=packed: torch_linear.run(x, packed, None)
    return contenders


def time_linear(
    bench: Bench, shapes: list[tuple[int, int]], tokens: list[int], say: Callable[[str], None]
) -> list[Row]:
    """One row per layer and number of tokens: milliseconds of each contender."""
    rows = []
    for k, n in shapes:
        for m in tokens:
            if not bench.has_time(f"linear {k}->{n}, {m} tokens"):
                continue
            try:
                seconds = bench.clock.medians(layer(bench, k, n, m), bench.budget_s())
            except torch.OutOfMemoryError:
                bench.left_out.append(f"linear {k}->{n}, {m} tokens: too little memory")
                continue
            rows.append({"layer": f"{k}->{n}", "tokens": m, **{name: ms(took) for name, took in seconds.items()}})
            base = seconds["16-bit kept"]
            said = [f"{name} {ms(took)} ms" + _ratio(took, base) for name, took in seconds.items()]
            say(f"{k:>5} -> {n:<5} {m:>5} tokens: " + ", ".join(said))
    return rows


def _ratio(took: float | None, base: float | None) -> str:
    return f" ({base / took:.2f}x)" if took and base and took != base else ""


def time_int8_stages(bench: Bench, k: int = 3072, n: int = 14336, m: int = 4096) -> Row:
    """Milliseconds of the stages of one int8 layer."""
    packed = bench.weight("Q4_K", n, k)
    x = torch.randn((m, k), device=bench.device).to(bench.dtype)
    a = activations.quantize(x)
    q, kept = decode_int8.decode_int8(packed, packed.row_scale), decode_int8.decode_columns(packed, a.columns)
    sums = torch._int_mm(a.q, q.t())
    y = torch.empty((m, n), dtype=bench.dtype, device=bench.device)
    seconds = bench.clock.medians(
        {
            "decode weight": lambda: decode_int8.decode_int8(packed, packed.row_scale),
            "decode columns": lambda: decode_int8.decode_columns(packed, a.columns),
            "quantize activations": lambda: activations.quantize(x),
            "integer GEMM": lambda: torch._int_mm(a.q, q.t()),
            "epilogue": lambda: int8_epilogue.epilogue(sums, a.scale, packed.row_scale, a.kept, kept, None, y),
            "all": lambda: linear(x, packed, mode="int8"),
        },
        bench.budget_s(),
    )
    return {name: ms(took) for name, took in seconds.items()}


def ms(seconds: float | None) -> float | None:
    """Rounded milliseconds."""
    return None if seconds is None else round(seconds * 1e3, 4)


def driver_version() -> str:
    """The NVIDIA driver's, as its own tool says it."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return "unknown"


def describe(device: torch.device) -> Row:
    """What the figures belong to."""
    found: Row = {"system": platform.platform(), "python": platform.python_version(), "torch": torch.__version__}
    found["triton"] = None if language.MISSING else language.triton.__version__
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found |= {"device": properties.name, "memory MiB": properties.total_memory >> 20}
        found |= {"capability": f"{properties.major}.{properties.minor}", "driver": driver_version()}
        found |= {"cuda": torch.version.cuda, "hip": torch.version.hip}
    return found


def table(rows: list[Row]) -> str:
    """Columns wide enough for their contents."""
    names = list(rows[0]) if rows else []
    lines = [names, *[[("-" if row.get(name) is None else str(row[name])) for name in names] for row in rows]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(names))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def measure(bench: Bench, say: Callable[[str], None]) -> Row:
    """All timings; what is said on the way is for whoever waits."""
    result: Row = {"dtype": str(bench.dtype)}
    copy_rate = copy_bytes_per_s(bench.clock)
    result["copy GB/s"] = round(copy_rate / 1e9)
    say(f"copy: {result['copy GB/s']} GB/s read and written\n")
    result["decode"] = time_decode(bench, copy_rate)
    say(table(result["decode"]) + "\n")
    shapes, tokens = (SHAPES[:1], TOKENS[:4]) if bench.quick else (SHAPES, TOKENS)
    say("linear layers, in brackets the speed relative to 16-bit weights that are kept:")
    result["linear"] = time_linear(bench, shapes, tokens, say)
    if bench.has_time("int8 stages"):
        result["int8 stages ms"] = time_int8_stages(bench)
        say(f"\none int8 layer, 3072 -> 14336, 4096 tokens, ms: {result['int8 stages ms']}")
    result["left out"] = bench.left_out
    return result


def check(bench: Bench, say: Callable[[str], None]) -> list[str]:
    """The faults of all kernels; first who would run. cuBLAS is asked for float32 sums, which the bounds assume."""
    packed, x = bench.weight("Q4_K", 256, 256), torch.zeros(64, 256, dtype=bench.dtype, device=bench.device)
    for mode in ("exact", "int8"):
        say(f"mode {mode}: {choose_linear(x, packed, None, mode).explain()}")
    matmul = torch.backends.cuda.matmul
    matmul.allow_bf16_reduced_precision_reduction = matmul.allow_fp16_reduced_precision_reduction = False
    faults = gpu_checks.run_checks(bench.device, bench.quick, say)
    matmul.allow_bf16_reduced_precision_reduction = matmul.allow_fp16_reduced_precision_reduction = True
    return faults


def main(arguments: list[str] | None = None) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description="Check and time the Triton kernels on this machine's GPU.")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    parser.add_argument("--quick", action="store_true", help="fewer sizes and samples, about a minute")
    options = parser.parse_args(arguments)
    if language.MISSING or not torch.cuda.is_available():
        missing = "the triton package" if language.MISSING else "a CUDA or ROCm device"
        print(f"benchmarks/gpu.py: {missing} is missing here; nothing was checked or timed", file=sys.stderr)
        return 2
    bench = Bench(torch.device("cuda", torch.cuda.current_device()), options.quick)
    result = describe(bench.device)
    print("\n".join(f"{name}: {value}" for name, value in result.items()), flush=True)
    say = lambda sentence: print(sentence, flush=True)  # noqa: E731
    result["faults"] = check(bench, say)
    if not result["faults"]:
        result |= measure(bench, say)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1), encoding="utf-8")
    print(f"{time.monotonic() - bench.began:.0f} s")
    return 1 if result["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())

"""Memory in the host's modes on this machine's GPU: `python benchmarks/gpu_memory.py [--json FILE] [--tiny]`.

A TI2V-5B of a few layers with random weights is written to a temporary file. For each mode (whole model, a part of it,
--lowvram, --novram, dynamic VRAM with and without room) a process of its own starts the host's memory management as
the host does, samples two steps with and without a LoRA, unloads, and does it all again. Checked are:

* the latents have the same bits in all modes, and again after unloading and loading;
* the share of the packed bytes on the device is what the mode says;
* unloading leaves the device, and packed weights on the CPU are the mapped file, not copies;
* a second round needs no more memory than the first, on the device or off it.

Exit code 1 if a check fails; 2, with one line, without a CUDA device. COMFYUI_DIR names the host.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "reference_model"))
    import environment

    environment.enter(__file__)

import gguf
import torch

from wan_gguf.benchmarks.gpu_memory_report import DYNAMIC, MIB, MODES, Results, faults, table
from wan_gguf.benchmarks.results import say
from wan_gguf.benchmarks.shapes import Shape
from wan_gguf.benchmarks.weights import RECIPES, wan_weights

CHILD = Path(__file__).with_name("gpu_memory_child.py")
LIMIT_S = 1800
# So that results repeat, and so that glibc gives back at once what the child frees.
VARIABLES = {
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "65536",
}
ROOM_BYTES = 1024 * MIB  # beside a half of the model, for what a forward needs


def write_model(path: Path, shape: Shape, recipe: str) -> int:
    """Write a GGUF of that shape with random weights; returns the size of the file."""
    writer = gguf.GGUFWriter(path, "wan")
    for name, packed in wan_weights(shape.config, recipe).items():
        kind = gguf.GGMLQuantizationType[packed.format.name]
        rows = packed.shape[:-1]
        if len(packed.shape) == 5:  # GGUF has four dimensions
            rows = (rows[0], *rows[2:]) if rows[1] == 1 else (rows[0] * rows[1], *rows[2:])
        writer.add_tensor(name, packed.data.numpy().reshape(*rows, -1), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.stat().st_size


def host_arguments(mode: str, device: str, model_bytes: int, free_bytes: int) -> list[str]:
    """What the host is started with."""
    if device == "cpu":
        return ["--cpu"]
    if MODES[mode][-1] != "--vram-headroom":
        return MODES[mode]
    taken = max(0, free_bytes - model_bytes // 2 - ROOM_BYTES)
    return [*MODES[mode], f"{taken / (1 << 30):.2f}"]


def run_child(request: Results) -> Results:
    """What the process for one mode printed, or {"error": why there is nothing}."""
    try:
        done = subprocess.run(
            [sys.executable, str(CHILD), json.dumps(request)],
            stdout=subprocess.PIPE,
            env={**os.environ, **VARIABLES},
            encoding="utf-8",
            timeout=LIMIT_S,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"not finished after {LIMIT_S} s"}
    answers = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not answers:
        return {"error": f"the process ended with exit code {done.returncode}; its messages are above"}
    return json.loads(answers[-1])


def measure(options: argparse.Namespace) -> Results:
    """{mode: what its process measured}."""
    results = {}
    free_bytes = torch.cuda.mem_get_info()[0] if options.device == "cuda" else 0
    with tempfile.TemporaryDirectory(prefix="wan-gguf-") as folder:
        shape = Shape.of(options.tiny, options.layers)
        file = Path(folder, "model.gguf")
        model_bytes = write_model(file, shape, options.recipe)
        say(f"a model of {model_bytes / MIB:.0f} MiB, {options.recipe}")
        for mode in options.modes:
            say(f"mode {mode}")
            arguments = host_arguments(mode, options.device, model_bytes, free_bytes)
            request = {"mode": mode, "arguments": arguments, "file": str(file), "base": folder, "tiny": options.tiny}
            results[mode] = run_child(request)
    return results


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options."""
    made = argparse.ArgumentParser(description="Check memory in the host's modes on this machine's GPU.")
    made.add_argument("--json", type=Path, help="also write the results to this file")
    made.add_argument("--tiny", action="store_true", help="a model of 1 MB, to see that everything runs")
    made.add_argument("--layers", type=int, default=4, help="of TI2V-5B's 30 (default 4: 0.5 GB)")
    made.add_argument("--recipe", choices=RECIPES, default="Q4_K")
    made.add_argument("--modes", type=_modes, default=list(MODES), help="separated by semicolons; default all")
    made.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help=argparse.SUPPRESS)
    return made.parse_args(arguments)


def _modes(text: str) -> list[str]:
    names = [name.strip() for name in text.split(";")]
    unknown = [name for name in names if name not in MODES]
    if unknown:
        raise argparse.ArgumentTypeError(f"got {'; '.join(unknown)}; {'; '.join(MODES)} are allowed")
    return names


def main(arguments: list[str] | None = None) -> int:
    """The exit code."""
    options = parse(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        print("benchmarks/gpu_memory.py: a CUDA or ROCm device is missing here; nothing was checked", file=sys.stderr)
        return 2
    results = measure(options)
    found = faults(results, options.tiny)
    print(table(results))
    print("\n".join(f"WRONG {fault}" for fault in found) or "all checks passed")
    if options.tiny and any(mode in DYNAMIC for mode in options.modes):
        print("not compared: bits under dynamic VRAM, where the host makes this model's small layers dense")
    if options.json:
        document = {"torch": torch.__version__, "device": options.device, "faults": found, "modes": results}
        options.json.write_text(json.dumps(document, indent=1), encoding="utf-8")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

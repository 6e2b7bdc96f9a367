"""The quantised layers on a CPU, beside dense ones and other programs': `python3 benchmarks/cpu.py` or `cli bench cpu`.

Options are checked before anything is installed or imported. What the printed numbers mean is told in RESULTS.md.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "reference_model"))
    import environment

    environment.register_pack()

from wan_gguf.benchmarks.command import list_of, positive, run

SUMMARY = "quantised layers on the CPU, beside dense ones and other programs'"
PARTS = ("linear", "forward", "memory", "startup")
RECIPES = ("Q4_K", "Q4_K_M", "Q8_0")
TOKENS = (390, 1950)


def _tokens(text: str) -> list[int]:
    return [int(word) for word in list_of(tuple(map(str, TOKENS)))(text)]


def _folder_with(*names: str) -> Callable[[str], Path]:
    def parse(text: str) -> Path:
        folder = Path(text).expanduser().resolve()
        missing = [name for name in names if not (folder / name).is_file()]
        if missing or not folder.is_dir():
            raise argparse.ArgumentTypeError(f"{folder} {f'has no {missing[0]}' if missing else 'is no folder'}")
        return folder

    return parse


def parser() -> argparse.ArgumentParser:
    """The options; the parser needs the standard library only."""
    made = argparse.ArgumentParser(prog="python3 cli bench cpu", description=f"Measures {SUMMARY}.")
    made.add_argument("--json", action="store_true", help="print one JSON object on stdout instead of tables")
    made.add_argument("--quick", action="store_true", help="linear layers and errors only, in less than a minute")
    made.add_argument(
        "--parts",
        type=list_of(PARTS),
        default=list(PARTS),
        metavar="A,B",
        help=f"of: {','.join(PARTS)} (default: all)",
    )
    made.add_argument(
        "--recipes",
        type=list_of(RECIPES),
        default=list(RECIPES),
        metavar="A,B",
        help=f"weight types of the forwards: {','.join(RECIPES)} (default: all; dense fp32 and peers with the first)",
    )
    made.add_argument("--tokens", type=_tokens, default=list(TOKENS), metavar="A,B", help="390,1950 (default: both)")
    made.add_argument("--layers", type=positive, default=4, metavar="N", help="of a model's 30 (default: 4)")
    made.add_argument("--rounds", type=positive, default=3, metavar="N", help="samples of each forward (default: 3)")
    made.add_argument("--threads", type=positive, metavar="N", help="torch's threads (default: torch's choice)")
    made.add_argument(
        "--dtype", choices=("auto", "bf16", "fp32"), default="auto", help="ours compute in (default: auto, by the CPU)"
    )
    made.add_argument(
        "--native-bf16",
        choices=("auto", "always", "never"),
        default="auto",
        help="dense bf16 beyond the first linear layer; auto (default) leaves it out where the CPU has no bf16 "
        "instructions and it would take minutes",
    )
    made.add_argument(
        "--comfyui-gguf",
        type=_folder_with("ops.py", "dequant.py"),
        metavar="DIR",
        help="a clone of ComfyUI-GGUF, measured as well",
    )
    made.add_argument(
        "--sd-cpp",
        type=_folder_with(),
        metavar="DIR",
        help="a build of stable-diffusion.cpp with shared libraries; its linear layers are measured as well",
    )
    made.add_argument("--tiny", action="store_true", help="tiny shapes: shows that all runs; the numbers mean nothing")
    return made


def measure(options: argparse.Namespace) -> int:
    """Measure and print; returns the exit code."""
    from wan_gguf.benchmarks import cpu_suite, report

    results = cpu_suite.run(options)
    print(json.dumps(report.with_keys(results), indent=1) if options.json else report.tables(results))
    return 0


def main(arguments: list[str]) -> int:
    """Check the options, then measure; returns the exit code."""
    options = parser().parse_args(arguments)
    return run(__file__, lambda: measure(options))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

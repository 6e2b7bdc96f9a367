"""Converting a whole model beside the quantiser alone: `python3 cli bench convert`.

Writes a BF16 source with TI2V-5B's tensors (10 GB) and its GGUF, and removes both. The keys are told in RESULTS.md.
Options are checked before anything is imported.
"""

import argparse
import json
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "reference_model"))
    import environment

    environment.register_pack()

from wan_gguf.benchmarks.command import positive, run

SUMMARY = "converting a whole TI2V-5B, beside the quantiser alone; writes 13.4 GB for a while"


def parser() -> argparse.ArgumentParser:
    """The options; the parser needs the standard library only."""
    made = argparse.ArgumentParser(prog="python3 cli bench convert", description=f"Measures {SUMMARY}.")
    made.add_argument("--json", action="store_true", help="print one JSON object on stdout instead of a table")
    made.add_argument("--type", default="Q4_K_M", help="any type of `python3 cli convert` (default: Q4_K_M)")
    made.add_argument("--layers", type=positive, default=30, metavar="N", help="of the model's 30 (default: 30)")
    made.add_argument("--tiny", action="store_true", help="a tiny model: shows that all runs; the numbers mean nothing")
    return made


def measure(options: argparse.Namespace) -> int:
    """Measure and print; returns the exit code."""
    from wan_gguf.benchmarks import convert_suite

    results = convert_suite.run(options)
    print(json.dumps(results, indent=1) if options.json else convert_suite.table(results))
    return 0


def main(arguments: list[str]) -> int:
    """Check the options, then measure; returns the exit code."""
    options = parser().parse_args(arguments)
    return run(__file__, lambda: measure(options), (OSError, ValueError))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

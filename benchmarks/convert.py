"""Converting a whole model beside the quantiser alone: `python3 cli bench convert`.

Writes a BF16 source with TI2V-5B's tensors (10 GB) and its GGUF, and removes both. The keys are told in RESULTS.md.
Options are checked before anything is imported.
"""

import argparse
import json
import signal
import sys
from pathlib import Path

SUMMARY = "converting a whole TI2V-5B, beside the quantiser alone; writes 13.4 GB for a while"


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got '{text}'; a whole number from 1 is allowed")
    return int(text)


def parser() -> argparse.ArgumentParser:
    """The options; the parser needs the standard library only."""
    made = argparse.ArgumentParser(prog="python3 cli bench convert", description=f"Measures {SUMMARY}.")
    made.add_argument("--json", action="store_true", help="print one JSON object on stdout instead of a table")
    made.add_argument("--type", default="Q4_K_M", help="any type of `python3 cli convert` (default: Q4_K_M)")
    made.add_argument("--layers", type=_positive, default=30, metavar="N", help="of the model's 30 (default: 30)")
    made.add_argument("--tiny", action="store_true", help="a tiny model: shows that all runs; the numbers mean nothing")
    return made


def _ask_to_end(signal_number: int, _frame: object) -> None:
    raise SystemExit(128 + signal_number)  # so that the temporary folder and the child process go, too


def main(arguments: list[str]) -> int:
    """Measure and print; returns the exit code."""
    options = parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _ask_to_end)
    try:
        sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "reference_model"))
        import environment

        environment.enter(__file__)
        from wan_gguf.benchmarks import convert_suite

        results = convert_suite.run(options)
        print(json.dumps(results, indent=1) if options.json else convert_suite.table(results))
    except KeyboardInterrupt:
        print("error: stopped by Ctrl-C", file=sys.stderr)
        return 130
    except (OSError, ValueError) as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

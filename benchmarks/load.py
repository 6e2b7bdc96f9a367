"""Whole models of real size, opened, loaded and run in the host: `python3 cli bench load`.

Writes random files of exactly the published sizes (TI2V-5B and both A14B experts Q4_K_M, UMT5-XXL Q5_K_M), 19.3 GB at
one time, and removes them. Options are checked before anything is imported; the keys are told in RESULTS.md.
"""

import argparse
import json
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "reference_model"))
    import environment

    environment.register_pack()

from wan_gguf.benchmarks.command import list_of, run

SUMMARY = "whole models of real size: loading, a step, memory; writes up to 19.3 GB for a while"
PARTS = ("5b", "umt5", "a14b")


def _folder(text: str) -> Path:
    folder = Path(text).expanduser().resolve()
    if folder.exists() and not folder.is_dir():
        raise argparse.ArgumentTypeError(f"{folder} is no folder")
    return folder


def parser() -> argparse.ArgumentParser:
    """The options; the parser needs the standard library only."""
    made = argparse.ArgumentParser(prog="python3 cli bench load", description=f"Measures {SUMMARY}.")
    made.add_argument("--json", action="store_true", help="print one JSON object on stdout instead of a table")
    made.add_argument(
        "--only",
        type=list_of(PARTS),
        default=list(PARTS),
        metavar="A,B",
        help="of: 5b (3.4 GB of disk), umt5 (4.2 GB), a14b (19.3 GB); default: all, one after the other",
    )
    made.add_argument(
        "--keep",
        type=_folder,
        metavar="DIR",
        help="write the files to DIR, leave them there and use them again (27 GB for all parts); it must lie on a "
        "disk, not in memory (default: a temporary folder in the pack's cache)",
    )
    made.add_argument("--tiny", action="store_true", help="tiny models: shows that all runs; the numbers mean nothing")
    return made


def measure(options: argparse.Namespace) -> int:
    """Measure and print; returns the exit code."""
    from wan_gguf.benchmarks import full_size_report, full_size_suite

    results = full_size_suite.run(options)
    print(json.dumps(results, indent=1) if options.json else full_size_report.table(results), flush=True)
    for fault in results["faults"]:
        print(f"error: {fault}", file=sys.stderr)
    note = full_size_report.slow(results)
    if note and not options.tiny:
        print(f"note: {note}", file=sys.stderr)
    return 1 if results["faults"] else 0


def main(arguments: list[str]) -> int:
    """Check the options, then measure; returns the exit code."""
    options = parser().parse_args(arguments)
    return run(__file__, lambda: measure(options))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

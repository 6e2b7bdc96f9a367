"""What each quant type costs in quality, on the reference model: `python3 cli bench quality`.

The reference transformer is converted to every type and makes the same videos as its F16 version; the differences are
measured. Any other GGUF files of the reference transformer (planned mixes, say) are compared in the same way:

    python3 cli bench quality --files a.gguf b.gguf --json

Finished videos are kept, by content: a run that was stopped goes on where it was, and a file that was measured before
costs nothing. What the numbers mean is told in docs/quality.md, whose tables and plot `--write` makes.
Options are checked before anything is installed or imported.
"""

import argparse
import json
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "reference_model"))
    import environment

    environment.register_pack()

from wan_gguf.benchmarks.command import list_of, positive, run

SUMMARY = "what each quant type costs in quality, on the reference model; an hour, goes on where it was stopped"
ROOT = Path(__file__).resolve().parent.parent
# coarse to fine; F16 is what all others are compared with
TYPES = (
    "Q2_K", "Q3_K_S", "Q3_K_M", "Q3_K_L", "IQ4_XS", "IQ4_NL", "Q4_0", "Q4_K_S", "Q4_1", "Q4_K_M", "Q5_0", "Q5_K_S",
    "Q5_1", "Q5_K_M", "Q6_K", "Q8_0", "BF16",
)  # fmt: skip
PARTS = ("videos", "weights")
BATCH = 8  # prompts of one language; as many follow in the other
PUBLISHABLE_PROMPTS = 64


def _prompts(text: str) -> int:
    count = positive(text)
    if count % (2 * BATCH):
        raise argparse.ArgumentTypeError(f"got {count}; a multiple of {2 * BATCH} is allowed, half of them Chinese")
    return count


def _file(text: str) -> Path:
    path = Path(text).expanduser().resolve()
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"{path} is no file; a GGUF of the reference transformer is needed")
    return path


def _folder(text: str) -> Path:
    folder = Path(text).expanduser().resolve()
    if folder.exists() and not folder.is_dir():
        raise argparse.ArgumentTypeError(f"{folder} is no folder")
    return folder


def parser() -> argparse.ArgumentParser:
    """The options; the parser needs the standard library only."""
    made = argparse.ArgumentParser(prog="python3 cli bench quality", description=f"Measures {SUMMARY}.")
    made.add_argument("--json", action="store_true", help="print one JSON object on stdout instead of tables")
    made.add_argument(
        "--files",
        type=_file,
        nargs="+",
        metavar="GGUF",
        help="compare these files of the reference transformer with its F16 version, instead of the types",
    )
    made.add_argument(
        "--types",
        type=list_of(TYPES),
        metavar="A,B",
        help=f"of: {','.join(TYPES)} (default: all, without --files)",
    )
    made.add_argument(
        "--prompts",
        type=_prompts,
        default=PUBLISHABLE_PROMPTS,
        metavar="N",
        help=f"videos of each type, half of them from Chinese prompts (default: {PUBLISHABLE_PROMPTS})",
    )
    made.add_argument("--steps", type=positive, default=10, metavar="N", help="of the sampler (default: 10)")
    made.add_argument(
        "--parts",
        type=list_of(PARTS),
        metavar="A,B",
        help="videos: the reference model's; weights: errors of single matrices of real size "
        "(default: both; with --files videos)",
    )
    made.add_argument(
        "--threads", type=positive, default=1, metavar="N", help="torch's (default: 1, so that machines agree)"
    )
    made.add_argument(
        "--state",
        type=_folder,
        default=ROOT / ".cache" / "quality",
        metavar="DIR",
        help="where finished work is kept, 0.5 GB (default: .cache/quality in the pack); delete it to measure anew",
    )
    made.add_argument(
        "--write", action="store_true", help="put the tables and the plot into docs/quality.md and docs/images"
    )
    return made


def _checked(arguments: list[str]) -> argparse.Namespace:
    """The options, with the defaults that depend on others."""
    made = parser()
    options = made.parse_args(arguments)
    if options.write and (options.files or options.types or options.parts):
        made.error("--write publishes the whole table; leave --files, --types and --parts out")
    if options.write and options.prompts < PUBLISHABLE_PROMPTS:
        made.error(f"--write: got --prompts {options.prompts}; at least {PUBLISHABLE_PROMPTS} are published")
    options.types = options.types or ([] if options.files else list(TYPES))
    options.files = options.files or []
    options.parts = options.parts or (list(PARTS) if options.types else ["videos"])
    if "weights" in options.parts and not options.types:
        made.error("--parts weights: is about types; leave --files out or name --types, too")
    return options


def measure(options: argparse.Namespace) -> int:
    """Measure and print; returns the exit code."""
    from wan_gguf.benchmarks import quality_report, quality_suite

    results = quality_suite.run(options)
    if options.write:
        quality_report.write(results, ROOT / "docs")
    print(json.dumps(results, indent=1) if options.json else quality_report.tables(results), flush=True)
    return 0


def main(arguments: list[str]) -> int:
    """Check the options, then measure; returns the exit code."""
    options = _checked(arguments)
    return run(
        __file__, lambda: measure(options), (OSError, ValueError)
    )  # each kind of file has an error class of its own


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

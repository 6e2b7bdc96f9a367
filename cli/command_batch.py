"""`python3 cli batch JOBS`: checks the options, prepares environment and host, then runs batch.py there."""

import argparse
import importlib
import os
from pathlib import Path

from .environment import is_active
from .errors import UsageError
from .options import MAX_SEED, Parser
from .paths import CLI
from .preparation import prepare
from .process import hand_over

SEED_POLICIES = ("from the row", "fixed", "increment")  # as text/prompt_list.py has them; a test compares
SUMMARY = "make a whole list of videos on a ComfyUI server; stops and goes on without losing any"
EPILOG = """\
JOBS is a prompt list (.txt: one prompt a line; .csv with a header, .jsonl: columns prompt, negative, seed, cfg, steps,
size, frames, name), applied to one workflow, or whole workflows in API form: a folder of .json files, one .json, or a
.jsonl with one a line. Each job gets a folder NUMBER-NAME with what the server saved, sheet.png (contact sheet) and
settings.json (the record). The states of the jobs are in DIR/batch.sqlite: the same command again goes on where it was
stopped or killed, takes new rows in, and leaves finished ones. Ctrl-C once takes back what waits and lets the running
job end, twice interrupts it. Exit code: 0 all done, 1 some failed, 130 stopped. See docs/batch.md."""


def parser() -> Parser:
    """The command's options."""
    made = Parser(
        prog="python3 cli batch", description="Run a list of jobs on a ComfyUI server, or on several.", epilog=EPILOG
    )
    made.add_argument("jobs", type=Path, metavar="JOBS", help="a prompt list, or whole workflows: see below")
    where = made.add_mutually_exclusive_group(required=True)
    where.add_argument("--server", metavar="URL", help="a ComfyUI that runs, e.g. http://127.0.0.1:8188")
    where.add_argument("--local", action="store_true", help="start a ComfyUI of its own, and again if it dies")
    where.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="a ComfyUI for each GPU of a Ray cluster; its address, or 'auto' (needs the package ray)",
    )
    _add_jobs_options(made)
    made.add_argument(
        "--out", type=Path, default=Path("output"), metavar="DIR", help="folder for the results (default: ./output)"
    )
    made.add_argument(
        "--models", type=Path, metavar="DIR", help="a ComfyUI models folder, for --local and --ray (on every node)"
    )
    made.add_argument(
        "--input", type=Path, metavar="DIR", help="ComfyUI's input folder, for --local and --ray: start images and such"
    )
    _add_pace_options(made)
    made.add_argument("--json", action="store_true", help="print one JSON object on stdout at the end")
    return made


def _add_jobs_options(made: Parser) -> None:
    made.add_argument(
        "--workflow",
        type=Path,
        metavar="FILE",
        help="what a prompt list is applied to, in API form (default: the demo's)",
    )
    made.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NODE.INPUT=COLUMN",
        help="which input of the workflow a column goes to, where that is not plain; may be given several times",
    )
    made.add_argument(
        "--seed-policy",
        choices=SEED_POLICIES,
        default="from the row",
        help="the seed of a row: its own, else --seed, else the workflow's (default); --seed; --seed plus its place",
    )
    made.add_argument("--seed", type=int, metavar="N", help="the seed --seed-policy speaks of")


def _add_pace_options(made: Parser) -> None:
    made.add_argument(
        "--ahead", type=int, default=4, metavar="N", help="jobs on the server at a time, 1 to 64 (default: 4)"
    )
    made.add_argument(
        "--patience",
        type=float,
        default=600.0,
        metavar="S",
        help="seconds to wait for a server that is away (default: 600)",
    )
    made.add_argument(
        "--workers", type=int, metavar="N", help="for --ray: servers in all (default: the cluster's GPUs, else nodes)"
    )
    made.add_argument("--retry-failed", action="store_true", help="try the jobs again that failed before")


def parse(arguments: list[str]) -> argparse.Namespace:
    """The options, checked. Raises UsageError."""
    options = parser().parse_args(arguments)
    if not 1 <= options.ahead <= 64:
        raise UsageError(f"--ahead must be 1 to 64, got {options.ahead}")
    if not 0 <= options.patience < 1e9:  # nan too
        raise UsageError(f"--patience must be seconds, 0 or more, got {options.patience}")
    if options.workers is not None and not (options.ray and options.workers >= 1):
        raise UsageError(f"--workers must be 1 or more and go with --ray, got {options.workers}")
    if options.seed is not None and not 0 <= options.seed <= MAX_SEED:
        raise UsageError(f"--seed must be 0 to 2^64 - 1, got {options.seed}")
    for name in ("models", "input"):
        folder = getattr(options, name)
        if folder is not None and options.server:
            raise UsageError(f"--{name} is for a server that this program starts; with --server leave it out")
        if folder is not None and not folder.expanduser().is_dir():
            raise UsageError(f"--{name} is {folder}, which is no folder; name an existing one")
    for name in ("jobs", "workflow", "out", "models", "input"):
        path = getattr(options, name)
        setattr(options, name, path and Path(os.path.abspath(path.expanduser())))
    return options


def run(arguments: list[str]) -> int:
    """Called twice, as for the demo: by the user's Python, which only checks and prepares, and by the environment's."""
    options = parse(arguments)
    ready = prepare(dev=False)
    if not is_active():
        hand_over([ready.python, CLI, "batch", *arguments])
    if options.server:
        # not at the top: these import packages that only the environment has
        options.server = importlib.import_module(".batch_address", __package__).check_address(options.server)
    return importlib.import_module(".batch", __package__).run(options, ready.host)

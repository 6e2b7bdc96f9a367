"""`python3 cli inspect`: prepares the environment, then runs a report there: of a file, its errors or the kernels."""

import importlib
import os
from pathlib import Path

from .environment import is_active
from .errors import UsageError
from .options import Parser
from .paths import CLI
from .preparation import prepare
from .process import hand_over

SUMMARY = "say what a model file is, or which kernels compute the GGUF types on this machine"


def parser() -> Parser:
    """The command's options."""
    made = Parser(
        prog="python3 cli inspect",
        description="Say what a model file is and where it belongs, from its header alone; with --ops, what this "
        "machine does with GGUF weights.",
    )
    made.add_argument("file", nargs="?", type=Path, metavar="FILE", help="a .gguf or .safetensors file, good or bad")
    made.add_argument(
        "--verify",
        type=Path,
        metavar="SOURCE",
        help="decode FILE and the source it was made from, and print the error of every tensor",
    )
    made.add_argument(
        "--ops",
        action="store_true",
        help="for every GGUF type and device: the kernel that decodes it and the kernels that multiply by it in each "
        "mode, and why faster ones do not run",
    )
    made.add_argument("--json", action="store_true", help="print JSON on stdout instead of a table")
    return made


def run(arguments: list[str]) -> int:
    """Called twice, as for the demo: by the user's Python, which only prepares, and by the environment's."""
    options = parser().parse_args(arguments)
    if options.ops == (options.file is not None):
        raise UsageError(
            "say what to inspect: a FILE, or --ops for the kernels on this machine; see: python3 cli inspect --help"
        )
    if options.verify and options.file is None:
        raise UsageError("--verify compares a FILE with its source; name both; see: python3 cli inspect --help")
    ready = prepare(dev=False)
    if not is_active():
        hand_over([ready.python, CLI, "inspect", *arguments])
    # not at the top: they import packages that only the environment has
    if options.ops:
        return importlib.import_module(".kernel_report", __package__).run(options.json)
    file = Path(os.path.expanduser(options.file))
    if options.verify:
        verification = importlib.import_module(".verification", __package__)
        return verification.run(file, Path(os.path.expanduser(options.verify)), options.json)
    return importlib.import_module(".file_report", __package__).run(file, options.json)

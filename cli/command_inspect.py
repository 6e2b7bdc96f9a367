"""`python3 cli inspect --ops`: prepares the environment, then runs kernel_report.py there."""

import importlib

from .environment import is_active
from .errors import UsageError
from .options import Parser
from .paths import CLI
from .preparation import prepare
from .process import hand_over

SUMMARY = "show which kernel computes each GGUF type on this machine, and why others do not"


def parser() -> Parser:
    """The command's options."""
    made = Parser(
        prog="python3 cli inspect",
        description="Show what this machine does with GGUF weights; nothing is computed.",
    )
    made.add_argument(
        "--ops",
        action="store_true",
        help="for every GGUF type and device: the kernel that decodes it and the kernels that multiply by it in each "
        "mode, and why faster ones do not run",
    )
    made.add_argument("--json", action="store_true", help="print one JSON object on stdout instead of a table")
    return made


def run(arguments: list[str]) -> int:
    """Called twice, as for the demo: by the user's Python, which only prepares, and by the environment's."""
    options = parser().parse_args(arguments)
    if not options.ops:
        raise UsageError(
            "say what to inspect: --ops shows the kernels on this machine; see: python3 cli inspect --help"
        )
    ready = prepare(dev=False)
    if not is_active():
        hand_over([ready.python, CLI, "inspect", *arguments])
    # not at the top: it imports torch, which only the environment has
    return importlib.import_module(".kernel_report", __package__).run(options.json)

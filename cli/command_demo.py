"""`python3 cli demo PROMPT`: checks the options, prepares environment and host, then runs demo.py there."""

import importlib

from .environment import is_active
from .options import parse
from .paths import CLI
from .preparation import prepare
from .process import hand_over
from .workflow import load_workflow, model_files

SUMMARY = "make a video from a prompt in English or Chinese with the bundled model"


def run(arguments: list[str]) -> int:
    """Called twice: by the user's Python, which only prepares, and by the environment's, which does the work."""
    options = parse(arguments)
    model_files(load_workflow())
    ready = prepare(dev=False)
    if not is_active():
        hand_over([ready.python, CLI, "demo", *arguments])
    # not at the top: demo.py imports packages that only the environment has
    return importlib.import_module(".demo", __package__).run(options, ready.host)

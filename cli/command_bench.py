"""`python3 cli bench SUBJECT`: the environment with the tests' packages, a host, then a script of benchmarks/ in it.

A subject is a file in benchmarks/ with a top-level `SUMMARY = "..."`; it is read, not imported.
"""

import ast
import sys
from pathlib import Path

from .errors import UsageError
from .paths import ROOT
from .preparation import prepare
from .process import hand_over

SUMMARY = "measure speed and memory of the pack on this machine"
FOLDER = ROOT / "benchmarks"
HELP = """usage: python3 cli bench SUBJECT [options]

{subjects}

`python3 cli bench SUBJECT --help` describes a subject's options. Tables and results go to stdout, progress to stderr.
The environment gets the tests' packages, because some subjects measure other programs beside the pack.
"""


def subjects(folder: Path = FOLDER) -> dict[str, tuple[Path, str]]:
    """Name on the command line -> (script, one line about it)."""
    found = {path: _summary(path) for path in sorted(folder.glob("*.py"))}
    return {path.stem.replace("_", "-"): (path, summary) for path, summary in found.items() if summary}


def _summary(script: Path) -> str | None:
    """The string that SUMMARY is set to at the top level of a script, or None."""
    for node in ast.parse(script.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["SUMMARY"]:
            return ast.literal_eval(node.value)
    return None


def run(arguments: list[str]) -> int:
    """Prepare, then become the subject's script."""
    known = subjects()
    if not arguments or arguments[0] in ("-h", "--help"):
        lines = [f"  {name:<10} {summary}" for name, (_, summary) in known.items()]
        print(HELP.format(subjects="\n".join(lines)), end="")
        return 0
    name, *rest = arguments
    if name not in known:
        raise UsageError(f"unknown subject '{name}'; there are: {', '.join(known) or 'none'}")
    script, _ = known[name]
    if {"-h", "--help"} & set(rest):
        hand_over([sys.executable, script, *rest])  # prepares by itself if it has to
    ready = prepare(dev=True)
    hand_over([ready.python, script, *rest], COMFYUI_DIR=str(ready.host))

"""`python3 cli test`: the environment with the tests' packages, a host, then pytest in the clone's root."""

from pathlib import Path

from .paths import ROOT
from .preparation import prepare
from .process import hand_over

SUMMARY = "run all tests; arguments go to pytest, --long adds the long campaigns"
HELP = """usage: python3 cli test [pytest arguments]

Makes the environment and finds a ComfyUI (COMFYUI_DIR, or around this folder, or fetched), then runs pytest in this
folder. Paths are relative to this folder, e.g.: python3 cli test tests/cli -k lock
With no path or choice of tests the suite runs in several processes, one per core and four at most.
  --long     also run the long campaigns
  -- --help  pytest's own help
"""
WHOLE_SUITE = {"--long", "-q", "-v", "-ra"}  # arguments that leave it whole
# a file stays in one process, for its fixtures' sake
PARALLEL = ("--numprocesses=auto", "--maxprocesses=4", "--dist=loadfile")


def run(arguments: list[str]) -> int:
    """Prepare, then become pytest."""
    if arguments in (["-h"], ["--help"]):
        print(HELP, end="")
        return 0
    if arguments[:1] == ["--"]:
        arguments = arguments[1:]
    ready = prepare(dev=True)
    command: list[str | Path] = [ready.python, "-m", "pytest", "--import-mode=importlib"]
    if WHOLE_SUITE.issuperset(arguments):
        command += PARALLEL
    command += arguments
    hand_over(command, folder=ROOT, COMFYUI_DIR=str(ready.host))

"""Choosing a command, and turning every way a command can end into an exit code."""

import importlib
import pkgutil
import signal
import sys
from types import ModuleType

from . import __path__ as _folder
from .errors import CliError, UsageError
from .terminal import error, prepare_streams

OVERVIEW = """Wan GGUF: Wan video models from GGUF files, with English and Chinese prompts.

usage: python3 cli COMMAND [options]

{commands}

`python3 cli COMMAND --help` describes a command. The first run makes an environment in this
folder (.venv) and fetches ComfyUI unless COMFYUI_DIR names one; later runs need no network.
"""


class Terminated(BaseException):
    """A signal asked the program to end; not an Exception, so that no handler on the way takes it for a failure."""

    def __init__(self, signal_number: int):
        super().__init__(signal_number)
        self.exit_code = 128 + signal_number


def discover() -> dict[str, str]:
    """Command name -> module name, one per file `command_<name>.py` in this folder."""
    names = sorted(module.name for module in pkgutil.iter_modules(_folder) if module.name.startswith("command_"))
    return {name.removeprefix("command_").replace("_", "-"): name for name in names}


def _module(name: str) -> ModuleType:
    return importlib.import_module(f".{name}", __package__)


def overview() -> str:
    """The text of `python3 cli --help`."""
    lines = [f"  {name:<8} {_module(module).SUMMARY}" for name, module in discover().items()]
    return OVERVIEW.format(commands="\n".join(lines))


def _run(arguments: list[str]) -> int:
    commands = discover()
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(overview(), end="")
        return 0
    name, *rest = arguments
    if name not in commands:
        raise UsageError(f"unknown command '{name}'; there are: {', '.join(commands)}")
    return _module(commands[name]).run(rest)


def _raise_terminated(signal_number: int, _frame: object) -> None:
    raise Terminated(signal_number)


def main(arguments: list[str]) -> int:
    """Run one command line and return its exit code: 0, 1 (failed), 2 (wrong usage), 128 + signal."""
    prepare_streams()
    for name in ("SIGTERM", "SIGHUP", "SIGBREAK"):  # those this platform has
        if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) is signal.SIG_DFL:
            signal.signal(getattr(signal, name), _raise_terminated)
    try:
        return _run(arguments)
    except CliError as failure:
        error(str(failure))
        return failure.exit_code
    except KeyboardInterrupt:
        error("stopped by Ctrl-C")
        return 130
    except Terminated as end:
        error("stopped by a signal")
        return end.exit_code
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output is gone; nothing more can be said
        return 1
    except OSError as failure:
        error(f"{failure.strerror or failure}{f': {failure.filename}' if failure.filename else ''}")
        return 1

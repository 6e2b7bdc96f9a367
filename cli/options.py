"""The demo's command line: options with units and defaults, checked before anything is installed or started."""

import argparse
import math
import os
from pathlib import Path
from typing import NoReturn

from .errors import UsageError
from .workflow import SETTINGS, load_workflow, settings_of

SOLVERS = ("unipc", "dpm++", "euler")
NEGATIVE_POLICIES = ("prompt language", "chinese", "english", "none")
MAX_SIDE_PX, MAX_FRAMES, MAX_STEPS = 16384, 4097, 1000
MAX_SEED = 2**64 - 1


class Parser(argparse.ArgumentParser):
    """argparse, whose errors are raised like all others here."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see: {self.prog} --help")


def parser() -> argparse.ArgumentParser:
    """Defaults come from the bundled workflow."""
    default = settings_of(load_workflow())
    made = Parser(
        prog="python3 cli demo",
        description="Make a short video from an English or Chinese prompt with the bundled model, in a real ComfyUI.",
        epilog="Writes NAME.mp4, NAME.png (contact sheet) and NAME.json (every setting, hashes); prints their paths. "
        "NAME comes from prompt and seed; a name that is taken gets -2, -3, ... so nothing is overwritten. The bundled "
        "model knows circles, squares and triangles in plain colours that move left, right, up or down, at 64x64 "
        "pixels and 17 frames.",
    )
    made.add_argument("prompt", help='what to show, e.g. "a red circle moves left" or "红色圆形向左移动"')
    made.add_argument("--negative", metavar="TEXT", help="what not to show (default: chosen by --default-negative)")
    made.add_argument(
        "--default-negative",
        choices=NEGATIVE_POLICIES,
        help=f"the negative prompt used if --negative is not given (default: {default['default_negative']})",
    )
    whole = {
        "seed": "random seed, 0 to 2^64 - 1; the same seed gives the same frames",
        "steps": "sampling steps",
        "frames": "frames in the video, 1 + a multiple of 4",
        "width": "width in pixels, a multiple of 16",
        "height": "height in pixels, a multiple of 16",
    }
    for name, text in whole.items():
        made.add_argument(f"--{name}", type=_integer, metavar="N", help=f"{text} (default: {default[name]})")
    real = {"cfg": "guidance strength, 1 (off) to 15", "shift": "time shift of the noise schedule, above 0"}
    for name, text in real.items():
        made.add_argument(f"--{name}", type=_number, metavar="X", help=f"{text} (default: {default[name]})")
    made.add_argument("--solver", choices=SOLVERS, help=f"how the schedule is solved (default: {default['solver']})")
    made.add_argument(
        "--out", type=Path, default=Path("output"), metavar="DIR", help="folder for the files (default: ./output)"
    )
    made.add_argument("--json", action="store_true", help="print one JSON object with paths and hashes on stdout")
    return made


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, got '{text}'") from None


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"must be a number, got '{text}'")
    return value


def parse(arguments: list[str]) -> argparse.Namespace:
    """The options, checked; `settings` holds those that were given, by their names in SETTINGS. Raises UsageError."""
    options = parser().parse_args(arguments)
    given = vars(options)
    options.settings = {name: given[name] for name in SETTINGS if given.get(name) is not None}
    check_settings(options.settings)
    options.out = Path(os.path.abspath(options.out.expanduser()))
    _check_folder(options.out)
    return options


def check_settings(settings: dict) -> None:
    """Ranges of all given settings. Raises UsageError naming the setting, the value and the remedy."""
    for name in ("prompt", "negative"):
        _check_text(name, settings.get(name))
    if "prompt" in settings and not settings["prompt"].strip():
        raise UsageError('prompt is empty; describe the video, e.g. "a red circle moves left"')
    _check_range("seed", settings, 0, MAX_SEED)
    _check_range("steps", settings, 1, MAX_STEPS)
    _check_range("cfg", settings, 1.0, 15.0)
    if settings.get("shift", 1.0) <= 0:
        raise UsageError(f"shift must be above 0, got {settings['shift']}; usual: 3 to 12")
    for name in ("width", "height"):
        _check_range(name, settings, 16, MAX_SIDE_PX)
        _check_multiple(name, settings, multiple=16, offset=0, rule="a multiple of 16")
    _check_range("frames", settings, 1, MAX_FRAMES)
    _check_multiple("frames", settings, multiple=4, offset=1, rule="1 + a multiple of 4")


def _check_text(name: str, text: str | None) -> None:
    if text is not None and any("\ud800" <= character <= "\udfff" for character in text):
        raise UsageError(f"{name} is not valid text in the terminal's encoding; use a UTF-8 terminal")


def _check_range(name: str, settings: dict, low: float, high: float) -> None:
    value = settings.get(name, low)
    if not low <= value <= high:
        raise UsageError(f"{name} must be {low} to {high}, got {value}; nearest: {min(max(value, low), high)}")


def _check_multiple(name: str, settings: dict, multiple: int, offset: int, rule: str) -> None:
    value = settings.get(name, offset)
    below = value - (value - offset) % multiple
    if below != value:
        near = [str(number) for number in (below, below + multiple) if number > 0]
        raise UsageError(f"{name} must be {rule}, got {value}; nearest: {' or '.join(near)}")


def _check_folder(folder: Path) -> None:
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise UsageError(f"--out is {folder}, but {existing} is a file; name a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UsageError(f"--out is {folder}, but {existing} cannot be written to; name another folder")

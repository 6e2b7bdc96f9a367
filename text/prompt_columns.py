"""The columns of a prompt list: how a cell is read, and what it may be.

A cell is text (CSV) or what JSON has (text, a number); `size` is WIDTHxHEIGHT in pixels, also written with × or *. The
limits are those of the nodes and of `sampling`, which this floor cannot import: a test holds them equal.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from .file_names import validate_file_name

Cells = Mapping[str, Any]

MAX_SEED = 2**64 - 1
MIN_CFG, MAX_CFG = 1.0, 15.0
MAX_STEPS = 1000
SIZE_MULTIPLE_PX, MAX_SIZE_PX = 16, 16384
FRAMES_MULTIPLE, MAX_FRAMES = 4, 16385

_WHOLE = re.compile(r"[+-]?[0-9]{1,40}")
_DECIMAL = re.compile(r"[+-]?([0-9]{1,40}(\.[0-9]{0,40})?|\.[0-9]{1,40})")
_SIZE = re.compile(r"([0-9]{1,9}) ?[xX×*] ?([0-9]{1,9})")


def validate_seed(value: object) -> int:
    """A seed, a whole number of 64 bits without a sign. Raises ValueError."""
    return _whole(value, 0, MAX_SEED)


def _prompt(value: object) -> dict[str, str]:
    return {"prompt": _text(value)}


def _negative(value: object) -> dict[str, str]:
    return {"negative": _text(value)}


def _seed(value: object) -> dict[str, int]:
    return {"seed": validate_seed(value)}


def _cfg(value: object) -> dict[str, float]:
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if isinstance(value, str) and _DECIMAL.fullmatch(value):
        number = float(value)
    if not MIN_CFG <= number <= MAX_CFG:  # nan too
        raise ValueError(f"must be a number from {MIN_CFG} to {MAX_CFG}, got {shown(value)}")
    return {"cfg": float(number)}


def _steps(value: object) -> dict[str, int]:
    return {"steps": _whole(value, 1, MAX_STEPS)}


def _size(value: object) -> dict[str, int]:
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"must be WIDTHxHEIGHT in pixels, as in 832x480, got {shown(value)}")
    width, height = int(found[1]), int(found[2])
    for name, side in (("width", width), ("height", height)):
        if side % SIZE_MULTIPLE_PX or not 0 < side <= MAX_SIZE_PX:
            allowed = f"a multiple of {SIZE_MULTIPLE_PX} from {SIZE_MULTIPLE_PX} to {MAX_SIZE_PX}"
            raise ValueError(f"{name} must be {allowed}, got {side}")
    return {"width": width, "height": height}


def _frames(value: object) -> dict[str, int]:
    frames = _whole(value, 1, MAX_FRAMES)
    if frames % FRAMES_MULTIPLE != 1:
        below = (frames - 1) // FRAMES_MULTIPLE * FRAMES_MULTIPLE + 1
        nearest = f"{below} or {below + FRAMES_MULTIPLE}"
        raise ValueError(f"must be 1 + a multiple of {FRAMES_MULTIPLE}, got {frames}; nearest: {nearest}")
    return {"frames": frames}


def _name(value: object) -> dict[str, str]:
    """A part of file names."""
    return {"name": validate_file_name(_text(value))}


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be text, got {shown(value)}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:  # JSON can write half of a surrogate pair
        raise ValueError(f"is no valid Unicode, got {shown(value)}") from None
    return value


def _whole(value: object, smallest: int, largest: int) -> int:
    number = value if isinstance(value, int) and not isinstance(value, bool) else None
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        number = int(value)
    if number is None or not smallest <= number <= largest:
        raise ValueError(f"must be a whole number from {smallest} to {largest}, got {shown(value)}")
    return number


def shown(value: object) -> str:
    """A cell in an error message, on one line and cut short."""
    text = repr(value) if isinstance(value, str | int | float) else f"a JSON {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:56]} ..."


# column -> its reader: a cell that is not empty -> {field of Row: value}. Raises ValueError
READERS: dict[str, Callable[[object], dict[str, Any]]] = {
    "prompt": _prompt,
    "negative": _negative,
    "seed": _seed,
    "cfg": _cfg,
    "steps": _steps,
    "size": _size,
    "frames": _frames,
    "name": _name,
}
COLUMNS = tuple(READERS)

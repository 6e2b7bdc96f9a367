"""What Save Video takes, for the commands that set it: known without the host, so that a wrong value costs no start.

The same as in host/video_codecs.py and host/video_memory.py, which no command can import; a test compares them.
"""

from collections.abc import Mapping
from typing import Any

from .errors import UsageError

_YUV = ("yuv420p", "yuv420p10le", "yuv444p", "yuv444p10le")
AUTO, RGB = "auto", "rgb24"
PIXEL_FORMATS_OF = {"h264": _YUV, "h265": _YUV, "vp9": ("yuv420p", "yuv444p"), "ffv1": (RGB, *_YUV)}
LARGEST_CRF = {"h264": 51, "h265": 51, "vp9": 63}  # ffv1 has none
CODECS = tuple(PIXEL_FORMATS_OF)
PIXEL_FORMATS = (AUTO, *_YUV, RGB)
TILINGS = (AUTO, "off", "1024", "768", "512", "384", "256")
MAX_FPS = 240.0
# inputs of Save Video that decide the file, and their values where nothing is said
DEFAULTS: Mapping[str, Any] = {"codec": "h264", "crf": -1, "pixel_format": AUTO, "fps": 0.0, "tiling": AUTO}


def with_options(kept: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """All settings: what is given, else what was kept of a job, else the default.

    Another codec than the job's has another scale of quality, and not all of the pixel formats: what the job had of
    those is left out then.
    """
    settings = {**DEFAULTS, **kept}
    codec = given.get("codec", settings["codec"])
    if codec != settings["codec"]:
        settings["crf"] = DEFAULTS["crf"]
        if settings["pixel_format"] not in PIXEL_FORMATS_OF.get(codec, ()):
            settings["pixel_format"] = AUTO
    return {**settings, **given}


def check_settings(settings: Mapping[str, Any]) -> None:
    """Raise UsageError, naming the option, for values that Save Video would refuse."""
    codec, crf, pixels, fps = (settings[name] for name in ("codec", "crf", "pixel_format", "fps"))
    _check_choice("--codec", codec, CODECS)
    _check_choice("--pixel-format", pixels, (AUTO, *PIXEL_FORMATS_OF[codec]), f" with {codec}")
    _check_choice("--tiling", settings["tiling"], TILINGS)
    largest = LARGEST_CRF.get(codec)
    if largest is None and crf != -1:
        raise UsageError(f"--crf is {crf}; {codec} loses nothing and has no quality to choose; set it to -1")
    if largest is not None and not -1 <= crf <= largest:
        raise UsageError(f"--crf is {crf}; {codec} takes 0 to {largest}, or -1 for its usual quality")
    if not (fps == 0 or 0.01 <= fps <= MAX_FPS):  # also refuses NaN
        raise UsageError(f"--fps is {fps:g}; it can be 0.01 to {MAX_FPS:g}, or 0 for the model's own")


def _check_choice(option: str, value: str, allowed: tuple[str, ...], where: str = "") -> None:
    if value not in allowed:
        raise UsageError(f"{option} is {value}; allowed{where}: {', '.join(allowed)}")

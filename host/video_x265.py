"""What x265 does to small pictures and short videos, and what keeps it from doing it.

It reads memory that it never wrote where a side of the picture is no longer than one of its largest blocks, 64 px, so
the bytes change from write to write; blocks of 16 px cure it. At widths up to 48 px it also writes where it must not,
whatever the blocks are, which can end the whole process. And where the frames are fewer than it holds back to reorder
them, their decode times are memory that it never wrote, too; what is there by chance does not fit into an mp4 file.

Found in x265 4.2 as it comes with PyAV 18.1, with valgrind and glibc's MALLOC_CHECK_ and MALLOC_PERTURB_.
"""

from collections.abc import Iterable
from typing import Any

PARAMETERS = "x265-params"
MIN_WIDTH_PX, MIN_HEIGHT_PX = 64, 16
_LARGEST_BLOCK_PX = 64
_SMALL_BLOCKS = ":ctu=16"
_REORDERED_FRAMES = 3  # fewer are written in their order


def with_steady_blocks(options: dict[str, str], width_px: int, height_px: int) -> dict[str, str]:
    """The encoder's options, with blocks that a picture of that size holds more than one of."""
    if min(width_px, height_px) > _LARGEST_BLOCK_PX:
        return options
    return {**options, PARAMETERS: options[PARAMETERS] + _SMALL_BLOCKS}


def check_size(width_px: int, height_px: int) -> None:
    """Raise ValueError for a picture that x265 refuses or may crash with."""
    if width_px < MIN_WIDTH_PX or height_px < MIN_HEIGHT_PX:
        raise ValueError(
            f"codec: h265 needs {MIN_WIDTH_PX} x {MIN_HEIGHT_PX} px and more, the frames are {width_px} x {height_px} "
            "px; choose h264 or ffv1"
        )


def with_times(packets: Iterable[Any], frames: int) -> list[Any]:
    """The last packets of a video of that many frames, each with the time at which it is decoded."""
    last = list(packets)
    if frames < _REORDERED_FRAMES:
        for packet in last:
            packet.dts = packet.pts
    return last

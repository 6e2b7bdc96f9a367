"""The frames of a finished job, one at a time: from its images, else from its video; and their contact sheet.

The readers' errors are sorted here: a file that they cannot read is damaged, one that they refuse to read is not.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from .output import SHEET_FRAMES, contact_sheet

IMAGE_ENDS = (".png", ".webp", ".jpg", ".jpeg")
VIDEO_ENDS = (".mp4", ".mkv", ".webm", ".mov", ".avi", ".gif")
_DEFAULT_FPS = 16.0


class DamagedFileError(Exception):
    """A file of the run cannot be read: it was cut off."""


class UndrawableError(Exception):
    """A file's pictures cannot be had, though nothing says that it is damaged."""


class ImageFiles(Sequence):
    """Image files as RGB frames, of an animated one all of them; read when asked for, so one file is in memory.

    Reading raises DamagedFileError, UndrawableError, OSError (the disk).
    """

    def __init__(self, files: list[Path]):
        self.files = files
        self._read: tuple[Path, Image.Image] | None = None

    @cached_property
    def _frames(self) -> list[tuple[Path, int]]:
        frames = []
        for file in self.files:
            with _reading(file), Image.open(file) as image:
                frames += [(file, number) for number in range(getattr(image, "n_frames", 1))]
        return frames

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, number):
        file, place = self._frames[number]
        with _reading(file):
            if self._read is None or self._read[0] != file or self._read[1].tell() > place:  # going back is not sure
                self._read = file, Image.open(io.BytesIO(file.read_bytes()))  # the file itself is closed again
            self._read[1].seek(place)
            return self._read[1].convert("RGB")


def _said(file: Path, failure: Exception) -> str:
    """The reader's words, without the path where the file lies for the moment."""
    words = getattr(failure, "strerror", None) or str(failure) or type(failure).__name__
    return file.name + ": " + words.partition(" '")[0]


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    try:
        yield
    except (Image.DecompressionBombError, MemoryError) as refusal:
        raise UndrawableError(f"{file.name} is too large to be read as a picture") from refusal
    except Exception as failure:  # damaged files end Pillow's readers with errors of every kind
        if isinstance(failure, OSError) and failure.errno is not None:  # the disk, not the picture
            raise
        raise DamagedFileError(_said(file, failure)) from failure


class ChosenFrames(Sequence):
    """As many frames as a video has, of which only those a contact sheet shows are kept."""

    def __init__(self, count: int, kept: dict[int, Image.Image]):
        self._count, self._kept = count, kept

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number):
        return self._kept[number]


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """PyAV's container of a file with a video in it. Inside and on opening: DamagedFileError, UndrawableError."""
    import av  # not at the top: slow to import, and needed only here

    try:
        with av.open(str(file), metadata_errors="replace") as container:
            videos = container.streams.video
            if not videos and any(stream.codec_context for stream in container.streams):
                raise UndrawableError(f"{file.name} has sound, but no pictures")
            if not videos or videos[0].codec_context is None:  # the description of what is in it was cut off
                raise DamagedFileError(f"{file.name}: no video is in it")
            yield container
    except (DamagedFileError, UndrawableError):
        raise
    except av.error.PatchWelcomeError as refusal:
        raise UndrawableError(_said(file, refusal)) from refusal
    except av.error.FFmpegError as failure:  # some of them are OSErrors with a number; it is not the disk
        raise DamagedFileError(_said(file, failure)) from failure
    except Exception as refusal:  # FFmpeg has read it; PyAV or the memory cannot show it
        raise UndrawableError(_said(file, refusal)) from refusal


def video_frames(file: Path) -> Iterator[Image.Image]:
    """The RGB frames of a video. Raises DamagedFileError, UndrawableError."""
    with _opened(file) as container:
        for frame in container.decode(video=0):
            yield frame.to_image()


def count_frames(file: Path) -> tuple[int, float]:
    """(frames, frames a second) of a video, by reading it to its end. Raises DamagedFileError, UndrawableError."""
    with _opened(file) as container:
        rate, count = container.streams.video[0].average_rate, sum(1 for _ in container.decode(video=0))
    if not count:
        raise DamagedFileError(f"{file.name}: no frame is in it")
    return count, float(rate or _DEFAULT_FPS)


def chosen_frames(file: Path) -> tuple[ChosenFrames, float]:
    """The frames of a video that its contact sheet shows, and its frames a second."""
    count, fps = count_frames(file)
    shown = min(count, SHEET_FRAMES)
    numbers = {round(index * (count - 1) / max(shown - 1, 1)) for index in range(shown)}
    kept = {number: frame for number, frame in enumerate(video_frames(file)) if number in numbers}
    return ChosenFrames(count, kept), fps


def check_readable(files: list[Path]) -> None:
    """Read pictures and videos to their ends. Raises DamagedFileError, OSError (the disk)."""
    for file in files:
        with suppress(UndrawableError):
            if file.name.endswith(VIDEO_ENDS):
                count_frames(file)
            else:
                for _ in ImageFiles([file]):
                    pass


def make_sheet(videos: list[Path], images: list[Path], title: str, fps: float | None) -> Image.Image | None:
    """The contact sheet of a job's first video, else of its images; None if it has neither, or an empty one.

    Raises DamagedFileError, UndrawableError, OSError (the disk).
    """
    if videos:
        frames, rate = chosen_frames(videos[0])
    else:
        frames, rate = ImageFiles(images), _DEFAULT_FPS
    return contact_sheet(frames, title, fps or rate) if len(frames) else None

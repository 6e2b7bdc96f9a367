"""The frames of a finished job, one at a time: from its images, else from its video; and their contact sheet."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from .output import SHEET_FRAMES, contact_sheet

IMAGE_ENDS = (".png", ".webp", ".jpg", ".jpeg")
VIDEO_ENDS = (".mp4", ".mkv", ".webm", ".mov", ".avi", ".gif")
_DEFAULT_FPS = 16.0


class ImageFiles(Sequence):
    """Image files as RGB frames; each is read when it is asked for, so only one is in memory."""

    def __init__(self, files: list[Path]):
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number):
        with Image.open(self.files[number]) as image:
            return image.convert("RGB")


class ChosenFrames(Sequence):
    """As many frames as a video has, of which only those a contact sheet shows are kept."""

    def __init__(self, count: int, kept: dict[int, Image.Image]):
        self._count, self._kept = count, kept

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number):
        return self._kept[number]


def video_frames(file: Path) -> Iterator[Image.Image]:
    """The RGB frames of a video. Raises OSError or ValueError (av's errors are of these) if it is damaged."""
    import av  # not at the top: slow to import, and needed only here

    with av.open(str(file)) as container:
        for frame in container.decode(video=0):
            yield frame.to_image()


def count_frames(file: Path) -> tuple[int, float]:
    """(frames, frames a second) of a video, by reading it to its end."""
    import av

    with av.open(str(file)) as container:
        rate = container.streams.video[0].average_rate
        return sum(1 for _ in container.decode(video=0)), float(rate or _DEFAULT_FPS)


def chosen_frames(file: Path) -> tuple[ChosenFrames, float]:
    """The frames of a video that its contact sheet shows, and its frames a second."""
    count, fps = count_frames(file)
    shown = min(count, SHEET_FRAMES)
    numbers = {round(index * (count - 1) / max(shown - 1, 1)) for index in range(shown)}
    kept = {number: frame for number, frame in enumerate(video_frames(file)) if number in numbers}
    return ChosenFrames(count, kept), fps


def make_sheet(videos: list[Path], images: list[Path], title: str, fps: float | None) -> Image.Image | None:
    """The contact sheet of a job's first video, else of its images; None if it has neither, or an empty one."""
    if videos:
        frames, rate = chosen_frames(videos[0])
    else:
        frames, rate = ImageFiles(images), _DEFAULT_FPS
    return contact_sheet(frames, title, fps or rate) if len(frames) else None

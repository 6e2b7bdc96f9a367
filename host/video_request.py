"""What is asked of Save Video, checked before anything is sampled; and what of it goes along with a latent."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import folder_paths

from .video_codecs import check_video_format
from .video_memory import check_tiling


@dataclass(frozen=True)
class Request:
    """The node's inputs, in its words."""

    filename_prefix: str
    codec: str
    crf: int
    pixel_format: str
    fps: float
    tiling: str
    keep_latent: bool = True
    images: bool = False

    def settings(self) -> dict[str, Any]:
        """What decides the file: kept with a latent for whoever finishes the job."""
        kept = ("codec", "crf", "pixel_format", "fps", "tiling")
        return {name: getattr(self, name) for name in kept}

    def check(self) -> None:
        """Raise ValueError for values that cannot be used, a folder that cannot be written among them."""
        check_video_format(self.codec, self.crf, self.pixel_format, self.fps)
        check_tiling(self.tiling)
        _check_folder(self.filename_prefix)


def output_place(filename_prefix: str, width_px: int, height_px: int) -> tuple[Path, str, int, str]:
    """Where the host puts files of that prefix: folder, name, first number, and the folder below the output folder.

    A folder that cannot be made is named all the same: what is to go there is the latent, which has other places, too.
    """
    output = folder_paths.get_output_directory()
    try:
        found = folder_paths.get_save_image_path(filename_prefix, output, width_px, height_px)
    except (OSError, ValueError):
        subfolder, name = os.path.split(os.path.normpath(filename_prefix))
        return Path(output, subfolder), name, 1, subfolder
    folder, name, number, subfolder, _ = found
    return Path(folder), name, number, subfolder


def _check_folder(filename_prefix: str) -> None:
    output = folder_paths.get_output_directory()
    normal = os.path.normpath(filename_prefix)
    folder = os.path.join(output, os.path.dirname(normal))
    if not os.path.basename(normal).strip(". ") or not folder_paths.is_within_directory(output, folder):
        raise ValueError(
            f"filename_prefix: '{filename_prefix}' is no name inside the output folder; use one like video/wan"
        )
    existing = Path(os.path.abspath(folder))
    while not os.path.exists(existing) and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise ValueError(f"filename_prefix: {existing} cannot be written to; choose another folder, or allow writing")

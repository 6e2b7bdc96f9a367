"""LATENT and VAE -> video files: the latent is put on the disk first, then the frames are decoded and written in turn.

What is left of a decode that fails, is stopped or killed is the latent, never half a video; `Wan GGUF Load Latent` or
`python3 cli decode` finish the job. Beside a video lies <name>.json with everything that decides its bytes, and their
hashes; all of it that is known before the decode travels in the file's tags, too.
"""

import contextlib
import hashlib
import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import comfy.model_management
import torch
from comfy.cli_args import args

from ..sampling.latent import latent_to_frames
from .latent_file import SETTINGS, keep_latent, origin_of, storable
from .stream_decode import check_streamable, stream_frames
from .unfinished_rows import release
from .video_codecs import CODECS, VideoFormat, check_frame_size, video_format
from .video_failure import RecordNotWrittenError, cannot_write, telling_where
from .video_file import VideoWriter
from .video_memory import Choice, choices, is_out_of_memory
from .video_place import flush_folder, numbered, partial_path, place, remove, remove_leftovers, write_whole
from .video_progress import FrameProgress
from .video_request import Request, output_place

_HASH_BYTES = 1 << 20


@dataclass(frozen=True)
class SavedVideo:
    """A finished file and its record, as it is in <name>.json."""

    path: Path
    record: dict[str, Any]
    tiling: Choice


@dataclass
class Saved:
    """All files of one run: `subfolder` below the host's output folder, `images` (frames, H, W, 3) or None."""

    subfolder: str
    latent: Path | None
    videos: list[SavedVideo] = field(default_factory=list)
    images: torch.Tensor | None = None


@dataclass(frozen=True)
class _Plan:
    """Where the files go and what is written into them; `settings` decide the frames and the file."""

    folder: Path
    name: str
    number: int
    width_px: int
    height_px: int
    format: VideoFormat
    settings: dict[str, Any]
    tags: dict[str, Any]

    def video_settings(self, choice: Choice) -> dict[str, Any]:
        """The settings with values in place of the defaults."""
        video = {
            "codec": self.format.codec,
            "crf": self.format.crf,
            "pixel_format": self.format.pixel_format,
            "fps": self.format.fps,
            "tiling": choice.record(),
        }
        return {**self.settings, "video": video}


def save_videos(
    vae: Any, latent: dict, request: Request, tags: dict[str, Any], vae_name: str | None, node_id: str | None = None
) -> Saved:
    """Decode every video of the latent into a file of its own. `tags`: prompt and workflow of the run.

    Raises ValueError for inputs that cannot be made a video, before anything is written, or for frames that are none;
    OSError for what cannot be written. Once the latent is on the disk the text says where.
    """
    request.check()
    check_streamable(vae, latent)
    samples, origin = storable(latent["samples"]), origin_of(latent)
    settings = {"sampling": latent.get(SETTINGS), "video": request.settings(), "vae_name": vae_name}
    if origin is not None:  # the run that is finished here is the one the file tells of
        tags = {name: value for name, value in origin.tags.items() if name != SETTINGS}
    plan, subfolder = _plan(vae, samples, request, settings, {} if args.disable_metadata else tags)
    if origin is not None:
        saved, number = Saved(subfolder, origin.path), plan.number
    else:
        path, number = _keep_latent(plan, samples)
        saved = Saved(subfolder, path)
        release(latent)
    with telling_where(saved.latent):
        remove_leftovers(plan.folder)
        progress = FrameProgress(samples.shape[0] * latent_to_frames(samples.shape[2]), node_id)
        _save_each(vae, samples, request, plan, number, saved, progress)
    if origin is None and not request.keep_latent:
        remove(saved.latent)
        saved.latent = None
    return saved


def _plan(vae: Any, samples: torch.Tensor, request: Request, settings: dict, tags: dict) -> tuple[_Plan, str]:
    video = video_format(request.codec, request.crf, request.pixel_format, request.fps, samples.shape[1])
    stride = int(vae.spacial_compression_decode())
    width_px, height_px = samples.shape[-1] * stride, samples.shape[-2] * stride
    check_frame_size(video, width_px, height_px)
    folder, name, number, subfolder = output_place(request.filename_prefix, width_px, height_px)
    return _Plan(folder, name, number, width_px, height_px, video, settings, tags), subfolder


def _keep_latent(plan: _Plan, samples: torch.Tensor) -> tuple[Path, int]:
    """Where the latent now is, and the number that its videos begin with."""
    try:
        kept = keep_latent(plan.folder, plan.name, plan.number, samples, {**plan.tags, SETTINGS: plan.settings})
    except (OSError, ValueError) as error:
        raise cannot_write(plan.folder, error, None) from error
    if kept.refusal is not None:
        raise cannot_write(plan.folder, kept.refusal, kept.path)
    return kept.path, kept.number


def _save_each(
    vae: Any,
    samples: torch.Tensor,
    request: Request,
    plan: _Plan,
    number: int,
    saved: Saved,
    progress: FrameProgress,
) -> None:
    batch, frames = samples.shape[0], latent_to_frames(samples.shape[2])
    kept = saved.latent if request.keep_latent else None
    if request.images:
        dtype = vae.vae_output_dtype()
        saved.images = torch.empty((batch * frames, plan.height_px, plan.width_px, 3), dtype=dtype)
    for index in range(batch):
        part = slice(index * frames, (index + 1) * frames)
        images = None if saved.images is None else saved.images[part]
        decode = _Decode(vae, samples[index : index + 1], plan, request.tiling, images, progress, part.start)
        partial, frames_sha256, choice = decode.run()
        try:
            record = _record(partial, frames_sha256, plan, choice, frames, kept)
            path, number = _place(partial, plan, number, record)
        finally:
            remove(partial)
        saved.videos.append(SavedVideo(path, record, choice))


@dataclass(frozen=True)
class _Decode:
    """One video: decoded into a partial file, with smaller tiles when the memory does not last."""

    vae: Any
    samples: torch.Tensor
    plan: _Plan
    tiling: str
    images: torch.Tensor | None
    progress: FrameProgress
    done: int

    def run(self) -> tuple[Path, str, Choice]:
        """(the partial file, SHA-256 of its frames, how it was decoded)."""
        ways = choices(self.vae, self.tiling, *self.samples.shape[2:])
        for choice, following in zip(ways, [*ways[1:], None], strict=True):
            try:
                return *self._write(choice), choice
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if following is None:
                    raise MemoryError(self._remedy(choice)) from error
            # outside the handler: the exception would keep the tensors of the failed decode alive
            logging.warning("Wan GGUF: out of memory with %s; going on with %s", choice, following)
            comfy.model_management.soft_empty_cache()
        raise AssertionError("there is always one way to decode")

    def _remedy(self, choice: Choice) -> str:
        if self.tiling == "auto":
            return f"out of memory with {choice}, the smallest there are; close other programs or decode a smaller size"
        return f"out of memory with {choice}; set tiling to auto or to a smaller size"

    def _write(self, choice: Choice) -> tuple[Path, str]:
        plan, partial, count = self.plan, partial_path(self.plan.folder), 0
        own = {} if args.disable_metadata else {SETTINGS: plan.video_settings(choice)}
        self.progress.start()
        try:
            with VideoWriter(partial, plan.format, plan.width_px, plan.height_px, {**plan.tags, **own}) as video:
                for piece in stream_frames(self.vae, self.samples, choice.tiling):
                    video.write(piece)
                    if self.images is not None:
                        self.images[count : count + len(piece)] = piece
                    count += len(piece)
                    self.progress.show(self.done + count, len(piece))
                return partial, video.finish()
        except BaseException:
            remove(partial)
            raise


def _record(
    partial: Path, frames_sha256: str, plan: _Plan, choice: Choice, frames: int, latent: Path | None
) -> dict[str, Any]:
    return {
        "frames_sha256": frames_sha256,
        "video_sha256": _file_sha256(partial),
        "frames": frames,
        "width": plan.width_px,
        "height": plan.height_px,
        **plan.video_settings(choice),
        "decoded_as": str(choice),
        "latent": None if latent is None else latent.name,
        "versions": {"torch": torch.__version__, "av": av.__version__},
    }


def _place(partial: Path, plan: _Plan, number: int, record: dict[str, Any]) -> tuple[Path, int]:
    """The video and its record under the first free number; returns the video's path and the next number."""
    extension = CODECS[plan.format.codec].extension
    while True:
        path = numbered(plan.folder, plan.name, number, extension)
        number += 1
        if path.with_suffix(".json").exists():
            continue
        with contextlib.suppress(FileExistsError):
            place(partial, path)
            break
    flush_folder(plan.folder)
    if not args.disable_metadata:
        _write_record(path, record)
    return path, number


def _write_record(video: Path, record: dict[str, Any]) -> None:
    text = json.dumps({"file": video.name, **record}, ensure_ascii=False, indent=2) + "\n"
    try:  # half of a surrogate pair, which UTF-8 has not, becomes what JSON writes for it
        write_whole(video.with_suffix(".json"), text.encode(errors="backslashreplace"))
    except OSError as error:
        raise RecordNotWrittenError(video, error) from error


def _file_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(_HASH_BYTES):
            digest.update(piece)
    return digest.hexdigest()

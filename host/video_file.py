"""Frames -> a video file, written one by one with PyAV; the same frames, format and tags give the same bytes.

    float -> 8 bits     255 x, cut off as the host's Save Image and Save Video do, so the frame hash is the one of both
    float -> 10 bits    from 65535 x in 16 bits
    RGB -> YUV          BT.709, limited range, and the file says so; swscale in its bit-exact mode

One thread encodes, and no encoder or container writes a time, a random number or its own name. The file grows under
another name than its own; whoever calls puts it in its place when it is complete.
"""

import contextlib
import hashlib
import json
import os
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import av.codec.context
import av.video.reformatter
import numpy as np
import torch

from .video_codecs import CODECS, RGB, VideoFormat, check_frame_size, encoder_options
from .video_x265 import with_times

_SWS_BILINEAR, _SWS_FULL_CHROMA_INPUT, _SWS_ACCURATE, _SWS_BITEXACT = 0x2, 0x4000, 0x40000, 0x80000
_SCALER = _SWS_BILINEAR | _SWS_FULL_CHROMA_INPUT | _SWS_ACCURATE | _SWS_BITEXACT
_BT709, _LIMITED_RANGE = 1, 1  # FFmpeg's numbers, as in ITU-T H.273


class VideoWriter:
    """`with VideoWriter(path, format, width_px, height_px, tags) as video: video.write(frames); video.finish()`.

    `tags`: name -> what is written as JSON. Raises OSError when the file cannot be written.
    """

    def __init__(self, path: Path, video: VideoFormat, width_px: int, height_px: int, tags: dict[str, Any]):
        check_frame_size(video, width_px, height_px)
        self.path, self.video, self.frames = path, video, 0
        self._hash = hashlib.sha256()
        self._reformatter = av.video.reformatter.VideoReformatter()
        self._container = _open(path, video, tags)
        try:
            self._stream = _add_stream(self._container, video, width_px, height_px)
        except BaseException:
            self._container.close()
            raise

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._container.close()
        else:
            _close_broken(self._container)

    def write(self, frames: torch.Tensor) -> None:
        """(n, height_px, width_px, 3) in 0 to 1."""
        for frame in frames:
            pixels = to_8_bits(frame)
            self._hash.update(pixels.data)
            self._encode(frame, pixels)
            self.frames += 1

    def finish(self) -> str:
        """Complete the file on the disk; returns the SHA-256 of all frames' 8-bit RGB bytes."""
        packets = self._stream.encode(None)
        self._container.mux(with_times(packets, self.frames) if self.video.codec == "h265" else packets)
        self._container.close()
        _check_complete(self.path, self.frames)
        with open(self.path, "rb+") as file:
            os.fsync(file.fileno())
        return self._hash.hexdigest()

    def _encode(self, frame: torch.Tensor, pixels: np.ndarray) -> None:
        if self.video.is_deep:
            picture = av.VideoFrame.from_ndarray(to_16_bits(frame), format="rgb48le")
        else:
            picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        picture = self._reformatter.reformat(picture, format=_stored(self.video), **_colours(self.video, _SCALER))
        picture.pts, picture.time_base = self.frames, 1 / _rate(self.video)
        self._container.mux(self._stream.encode(picture))


def to_8_bits(frames: torch.Tensor) -> np.ndarray:
    """0 to 1 -> uint8 as the host's Save Image and Save Video make it: 255 x, cut off."""
    return np.ascontiguousarray((frames * 255).clamp(0, 255).to("cpu", torch.uint8).numpy())


def to_16_bits(frames: torch.Tensor) -> np.ndarray:
    """0 to 1 -> uint16 as the host's Save Video makes it for 10 bits."""
    return np.ascontiguousarray((frames.float() * 65535).clamp(0, 65535).cpu().numpy().astype(np.uint16))


def _open(path: Path, video: VideoFormat, tags: dict[str, Any]) -> Any:
    codec = CODECS[video.codec]
    options = {"fflags": "+bitexact"}  # or Matroska draws random numbers
    if codec.container == "mp4":
        options["movflags"] = "use_metadata_tags+faststart"
    container = av.open(str(path), "w", format=codec.container, container_options=options)
    for name, value in sorted(tags.items()):  # in one order, whatever order they were read in
        container.metadata[name] = json.dumps(value)
    return container


def _add_stream(container: Any, video: VideoFormat, width_px: int, height_px: int) -> Any:
    codec = CODECS[video.codec]
    options = encoder_options(video, width_px, height_px)
    stream = container.add_stream(codec.encoder, rate=_rate(video), options=options)
    stream.width, stream.height, stream.pix_fmt = width_px, height_px, _stored(video)
    context = stream.codec_context
    context.time_base = 1 / _rate(video)
    context.thread_count = 1
    context.flags |= av.codec.context.Flags.bitexact.value
    if codec.crf is not None:
        stream.bit_rate = 0  # or VP9 holds a rate instead of a quality
    if codec.tag is not None:
        context.codec_tag = codec.tag
    if video.pixel_format != RGB:
        context.color_primaries = context.color_trc = context.colorspace = _BT709
        context.color_range = _LIMITED_RANGE
    return stream


def _colours(video: VideoFormat, scaler: int) -> dict[str, int]:
    """How RGB becomes what is stored."""
    if video.pixel_format == RGB:
        return {"interpolation": scaler}
    return {"interpolation": scaler, "dst_colorspace": _BT709, "dst_color_range": _LIMITED_RANGE}


def _stored(video: VideoFormat) -> str:
    """FFmpeg's name of the pixel format; the lossless codec takes RGB in another order of bytes."""
    return "bgr0" if video.pixel_format == RGB else video.pixel_format


def _rate(video: VideoFormat) -> Fraction:
    return Fraction(round(video.fps * 1000), 1000)


def _check_complete(path: Path, frames: int) -> None:
    """Read the file's packets once: a write that failed on closing goes unnoticed otherwise. Raises OSError."""
    with av.open(str(path)) as container:
        found = sum(packet.size > 0 for packet in container.demux(video=0))
    if found != frames:
        raise OSError(f"{path.name} holds {found} of {frames} frames; the disk may be full")


def _close_broken(container: Any) -> None:
    """What was written is thrown away, so a failure to complete it is of no interest beside the one that led here."""
    with contextlib.suppress(OSError):
        container.close()

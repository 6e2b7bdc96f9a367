"""What a video can be written as: for each codec its encoder in FFmpeg, its container, pixel formats and qualities.

Whatever an encoder would choose by the machine, such as its number of threads, is fixed here, so that equal frames and
settings give equal bytes with the same libraries.
"""

from dataclasses import dataclass

from . import video_x265

AUTO = "auto"
CODEC_DEFAULT = -1  # as crf: the codec's usual quality
RGB = "rgb24"
FPS_BY_CHANNELS = {16: 16.0, 48: 24.0}  # latent channels -> frames per second that the models were made for
FPS_BY_MODEL = 0.0
MAX_FPS = 240.0


@dataclass(frozen=True)
class Codec:
    """`pixel_formats`: the first is the default. `crf`: (largest value, default), None where every pixel is kept."""

    encoder: str
    container: str
    extension: str
    pixel_formats: tuple[str, ...]
    crf: tuple[int, int] | None
    options: dict[str, str]
    tag: str | None = None


_YUV = ("yuv420p", "yuv420p10le", "yuv444p", "yuv444p10le")
CODECS = {
    "h264": Codec("libx264", "mp4", "mp4", _YUV, (51, 19), {"preset": "medium"}),
    "h265": Codec(
        "libx265",
        "mp4",
        "mp4",
        _YUV,
        (51, 22),
        {"preset": "medium", video_x265.PARAMETERS: "pools=none:frame-threads=1:wpp=0:pmode=0:pme=0:log-level=error"},
        "hvc1",  # Apple's players know no other
    ),
    "vp9": Codec(
        "libvpx-vp9",
        "webm",
        "webm",
        ("yuv420p", "yuv444p"),  # PyAV's libvpx is built without more bits
        (63, 28),
        {"deadline": "good", "cpu-used": "2", "row-mt": "0"},
    ),
    "ffv1": Codec(
        "ffv1", "matroska", "mkv", (RGB, *_YUV), None, {"level": "3", "slices": "4", "slicecrc": "1", "g": "1"}
    ),
}
PIXEL_FORMATS = (AUTO, *_YUV, RGB)
MAX_CRF = max(codec.crf[0] for codec in CODECS.values() if codec.crf)


@dataclass(frozen=True)
class VideoFormat:
    """How frames are written: values, no defaults left; `crf` is None for a codec that loses nothing."""

    codec: str
    pixel_format: str
    crf: int | None
    fps: float

    @property
    def is_deep(self) -> bool:
        """Whether the pixels have more than 8 bits."""
        return self.pixel_format.endswith("10le")


def video_format(codec: str, crf: int, pixel_format: str, fps: float, channels: int) -> VideoFormat:
    """The node's values -> what is written. Raises ValueError for values that do not go together."""
    check_video_format(codec, crf, pixel_format, fps)
    known = CODECS[codec]
    chosen = known.pixel_formats[0] if pixel_format == AUTO else pixel_format
    quality = None if known.crf is None else known.crf[1] if crf == CODEC_DEFAULT else crf
    if fps == FPS_BY_MODEL:
        if channels not in FPS_BY_CHANNELS:
            raise ValueError(f"fps: 0 takes the model's own, which is not known for {channels} channels; set it")
        fps = FPS_BY_CHANNELS[channels]
    return VideoFormat(codec, chosen, quality, float(fps))


def check_video_format(codec: str, crf: int, pixel_format: str, fps: float) -> None:
    """Raise ValueError, naming what is allowed, unless the codec takes these values."""
    if codec not in CODECS:
        raise ValueError(f"codec: '{codec}' is unknown; allowed: {', '.join(CODECS)}")
    known = CODECS[codec]
    allowed = (AUTO, *known.pixel_formats)
    if pixel_format not in allowed:
        raise ValueError(f"pixel_format: {codec} cannot be written as '{pixel_format}'; allowed: {', '.join(allowed)}")
    if known.crf is None and crf != CODEC_DEFAULT:
        raise ValueError(f"crf: {codec} loses nothing and has no quality to choose; set crf to {CODEC_DEFAULT}")
    if known.crf is not None and not CODEC_DEFAULT <= crf <= known.crf[0]:
        raise ValueError(f"crf: must be 0 to {known.crf[0]} for {codec}, or {CODEC_DEFAULT} for its usual, got {crf}")
    if not (fps == FPS_BY_MODEL or 0.01 <= fps <= MAX_FPS):  # also refuses NaN
        raise ValueError(f"fps: must be 0.01 to {MAX_FPS:g}, or 0 for the model's own, got {fps}")


def check_frame_size(video: VideoFormat, width_px: int, height_px: int) -> None:
    """Raise ValueError for what the codec cannot take, or where two pixels share one colour and a side is odd."""
    if video.codec == "h265":
        video_x265.check_size(width_px, height_px)
    if "420" in video.pixel_format and (width_px % 2 or height_px % 2):
        raise ValueError(
            f"pixel_format: {video.pixel_format} needs even sides, the frames are {width_px} x {height_px} px; choose "
            "yuv444p"
        )


def encoder_options(video: VideoFormat, width_px: int, height_px: int) -> dict[str, str]:
    """What the encoder is told for frames of that size."""
    codec = CODECS[video.codec]
    options = codec.options | ({} if video.crf is None else {"crf": str(video.crf)})
    return video_x265.with_steady_blocks(options, width_px, height_px) if video.codec == "h265" else options

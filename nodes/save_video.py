"""Wan GGUF Save Video: a latent becomes a video file, decoded frame by frame; the latent itself is saved first."""

from pathlib import Path
from typing import Any

from comfy_api.latest import InputImpl, io, ui

from ..host.video_codecs import AUTO as AUTO_FORMAT
from ..host.video_codecs import CODEC_DEFAULT, CODECS, FPS_BY_MODEL, MAX_CRF, MAX_FPS, PIXEL_FORMATS
from ..host.video_memory import AUTO, TILINGS
from ..host.video_request import Request
from ..host.video_save import Saved, save_videos
from .category import CATEGORY
from .file_prefix import check_prefix
from .graph import refuse_wrong_files
from .graph_files import chosen_vae
from .graph_saving import run_tags, tiling_again
from .graph_walk import inputs_of

DEFAULT_PREFIX = "wan_gguf/video"
IMAGES_OUTPUT = 1


class WanGGUFSaveVideo(io.ComfyNode):
    """Schema and calls only; the work is in `host.video_save`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanGGUFSaveVideo",
            display_name="Wan GGUF Save Video",
            category=CATEGORY,
            description="Decodes a video latent and writes the video frame by frame, so memory does not grow with its "
            "length. The latent is saved first: whatever happens to the decode, nothing has to be sampled again.",
            search_aliases=["save video", "vae decode", "streamed decode", "mp4", "export video", "保存视频", "解码"],
            inputs=[*_link_inputs(), *_file_inputs(), *_decode_inputs()],
            outputs=_outputs(),
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo, io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(
        cls,
        filename_prefix: str | None = None,
        codec: str | None = None,
        crf: int | None = None,
        pixel_format: str | None = None,
        fps: float | None = None,
        tiling: str | None = None,
    ) -> bool | str:
        try:  # what is linked is None here, and checked at execution
            check_prefix(DEFAULT_PREFIX if filename_prefix is None else filename_prefix)
            Request(
                DEFAULT_PREFIX if filename_prefix is None else filename_prefix,
                next(iter(CODECS)) if codec is None else codec,
                CODEC_DEFAULT if crf is None or codec is None else crf,
                AUTO_FORMAT if pixel_format is None or codec is None else pixel_format,
                FPS_BY_MODEL if fps is None else fps,
                AUTO if tiling is None else tiling,
            ).check()
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def execute(
        cls,
        samples: dict,
        vae,
        filename_prefix: str = DEFAULT_PREFIX,
        fps: float = FPS_BY_MODEL,
        codec: str = "h264",
        crf: int = CODEC_DEFAULT,
        pixel_format: str = AUTO_FORMAT,
        tiling: str = AUTO,
        images: bool = False,
        keep_latent: bool = True,
    ) -> io.NodeOutput:
        check_prefix(filename_prefix)
        refuse_wrong_files(cls.hidden)
        _refuse_missing_images(cls.hidden, images)
        if tiling == AUTO:
            tiling = tiling_again(cls.hidden) or AUTO
        request = Request(filename_prefix, codec, crf, pixel_format, fps, tiling, keep_latent, images)
        node_id = None if cls.hidden is None else cls.hidden.unique_id
        tags = {} if cls.hidden is None else run_tags(cls.hidden)
        saved = save_videos(vae, samples, request, tags, _vae_name(cls.hidden), node_id)
        videos = [InputImpl.VideoFromFile(str(video.path)) for video in saved.videos]
        return io.NodeOutput(videos, saved.images, ui=_shown(saved))


def _vae_name(hidden: io.HiddenHolder | None) -> str | None:
    """The file of the VAE that is connected, where a loader names it."""
    return None if hidden is None or not hidden.prompt else chosen_vae(hidden.prompt, hidden.unique_id)


def _refuse_missing_images(hidden: io.HiddenHolder | None, images: bool) -> None:
    """Without this, what is connected to the images would fail after the decode, and not say why."""
    if images or hidden is None or not hidden.prompt:
        return
    link = [str(hidden.unique_id), IMAGES_OUTPUT]
    if any(link == value for node in hidden.prompt for value in inputs_of(hidden.prompt, node).values()):
        raise ValueError(
            "images: is off, but something is connected to the images output; switch it on, or connect 'Get Video "
            "Components' to the video output"
        )


def _shown(saved: Saved) -> dict[str, Any]:
    """As the host's Save Video and Save Latent show their files, and a text."""
    videos = [ui.SavedResult(video.path.name, saved.subfolder, io.FolderType.output) for video in saved.videos]
    shown = {**ui.PreviewVideo(videos).as_dict(), "text": (_text(saved),)}
    shown["wan_gguf"] = tuple(video.record for video in saved.videos)
    return shown


def _text(saved: Saved) -> str:
    lines = []
    for video in saved.videos:
        record, format_ = video.record, video.record["video"]
        size = f"{record['frames']} frames, {record['width']} x {record['height']} px, {format_['fps']:g} fps"
        quality = "" if format_["crf"] is None else f", crf {format_['crf']}"
        lines += [
            f"{video.path.name}: {size}, {format_['codec']} {format_['pixel_format']}{quality}",
            f"decoded as {video.tiling}",
            f"frames SHA-256 {record['frames_sha256']}",
        ]
    return "\n".join([*lines, _latent_line(saved.latent)])


def _latent_line(latent: Path | None) -> str:
    return "the latent was not kept" if latent is None else f"latent {latent.name}"


def _link_inputs() -> list[io.Input]:
    return [
        io.Latent.Input(
            "samples",
            display_name="latent",
            tooltip="The video latent, from 'Wan GGUF Sampler' or 'Wan GGUF Load Latent'.",
        ),
        io.Vae.Input(
            "vae",
            display_name="vae",
            tooltip="The VAE the model was made with: Wan2.1 for A14B and all Wan2.1 models, Wan2.2 for TI2V-5B.",
        ),
    ]


def _file_inputs() -> list[io.Input]:
    return [
        io.String.Input(
            "filename_prefix",
            default=DEFAULT_PREFIX,
            display_name="filename prefix",
            tooltip="Name of the files in the output folder, folders before it allowed; a number is added, and nothing "
            "is overwritten.",
        ),
        io.Float.Input(
            "fps",
            default=FPS_BY_MODEL,
            min=0.0,
            max=MAX_FPS,
            step=1.0,
            round=0.001,
            display_name="fps",
            tooltip="Frames per second; 0 takes the model's own: 16 for Wan2.1 and A14B, 24 for TI2V-5B.",
        ),
        io.Combo.Input(
            "codec",
            options=list(CODECS),
            default="h264",
            display_name="codec",
            tooltip="h264 plays everywhere (mp4), h265 is smaller (mp4, from 64 x 16 px), vp9 is free (webm), ffv1 "
            "loses nothing (mkv, large, not shown by browsers).",
        ),
        io.Int.Input(
            "crf",
            default=CODEC_DEFAULT,
            min=CODEC_DEFAULT,
            max=MAX_CRF,
            display_name="crf",
            tooltip="Quality, 0 (best) to 51, with vp9 to 63: lower is better and larger. -1 takes the codec's usual: "
            "19 for h264, 22 for h265, 28 for vp9; ffv1 has none.",
        ),
        io.Combo.Input(
            "pixel_format",
            options=list(PIXEL_FORMATS),
            default=AUTO_FORMAT,
            display_name="pixel format",
            tooltip="auto takes yuv420p, which every player knows, and rgb24 for ffv1. yuv444p keeps the colour of "
            "every pixel, 10le has 10 bits instead of 8.",
        ),
    ]


def _decode_inputs() -> list[io.Input]:
    return [
        io.Combo.Input(
            "tiling",
            options=list(TILINGS),
            default=AUTO,
            display_name="tiling",
            tooltip="auto decodes whole frames if they fit the memory, else tiles, and says so; off always whole "
            "frames; a number is the side of the tiles in pixels. Tiles change the picture slightly.",
        ),
        io.Boolean.Input(
            "images",
            default=False,
            display_name="images",
            tooltip="Also put all frames into the images output; this needs memory for the whole video.",
        ),
        io.Boolean.Input(
            "keep_latent",
            default=True,
            display_name="keep latent",
            tooltip="Keep the latent beside the video. If off, it is removed once the video is complete, never before.",
        ),
    ]


def _outputs() -> list[io.Output]:
    return [
        io.Video.Output(
            "video",
            display_name="video",
            tooltip="The saved video; of a batch, one after the other.",
            is_output_list=True,
        ),
        io.Image.Output(
            "images",
            display_name="images",
            tooltip="All frames in order, if images is on; the videos of a batch follow one another.",
        ),
    ]


NODES = [WanGGUFSaveVideo]

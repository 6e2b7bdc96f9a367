"""Wan GGUF Image to Video: a video that starts with a given image, for TI2V-5B and I2V-A14B."""

from comfy_api.latest import io

from ..host.image_conditioning import EXACT, SIZE_MODES, image_to_video
from .category import CATEGORY
from .empty_latent import MAX_FRAMES, MAX_SIZE_PX, MIN_SIZE_PX, check_size
from .graph import refuse_wrong_files


class WanGGUFImageToVideo(io.ComfyNode):
    """Schema and calls only; the work is in `host.image_conditioning`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanGGUFImageToVideo",
            display_name="Wan GGUF Image to Video",
            category=CATEGORY,
            description="Makes the video start with an image. The VAE decides the form: with the Wan2.2 VAE the image "
            "becomes the first frame of the latent (TI2V-5B), with the Wan2.1 VAE it goes into the conditioning "
            "(I2V-A14B). Without an image the latent is empty, for text to video.",
            search_aliases=["image to video", "i2v", "ti2v", "start image", "图生视频", "首帧"],
            inputs=[*_link_inputs(), *_size_inputs(), _image_input()],
            outputs=_outputs(),
            hidden=[io.Hidden.prompt, io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(
        cls, width: int | None = None, height: int | None = None, frames: int | None = None
    ) -> bool | str:
        try:
            check_size(width, height, frames)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def execute(
        cls,
        positive: list,
        negative: list,
        vae,
        width: int,
        height: int,
        frames: int,
        batch_size: int,
        size_mode: str,
        start_image=None,
    ) -> io.NodeOutput:
        refuse_wrong_files(cls.hidden)
        check_size(width, height, frames)
        size = {"width": width, "height": height, "frames": frames, "batch_size": batch_size, "size_mode": size_mode}
        return io.NodeOutput(*image_to_video(vae, positive, negative, start_image, **size))


def _link_inputs() -> list[io.Input]:
    return [
        io.Conditioning.Input(
            "positive",
            display_name="positive",
            tooltip="The encoded prompt: what the video should show, from 'Wan GGUF Prompt'.",
        ),
        io.Conditioning.Input(
            "negative",
            display_name="negative",
            tooltip="The encoded negative prompt: what the video should not show, from 'Wan GGUF Prompt'.",
        ),
        io.Vae.Input(
            "vae",
            display_name="vae",
            tooltip="The VAE of the model: Wan2.2 (48 channels) for TI2V-5B, Wan2.1 (16 channels) for I2V-A14B.",
        ),
    ]


def _size_inputs() -> list[io.Input]:
    return [
        io.Int.Input(
            "width",
            default=832,
            min=MIN_SIZE_PX,
            max=MAX_SIZE_PX,
            step=16,
            display_name="width",
            tooltip="Width of the video in pixels: a multiple of 16, with the Wan2.2 VAE of 32.",
        ),
        io.Int.Input(
            "height",
            default=480,
            min=MIN_SIZE_PX,
            max=MAX_SIZE_PX,
            step=16,
            display_name="height",
            tooltip="Height of the video in pixels: a multiple of 16, with the Wan2.2 VAE of 32.",
        ),
        io.Int.Input(
            "frames",
            default=81,
            min=1,
            max=MAX_FRAMES,
            step=4,
            display_name="frames",
            tooltip="Length of the video in frames: 1 + a multiple of 4, for example 81 (5 seconds at 16 "
            "frames per second) or 121 (5 seconds at 24).",
        ),
        io.Int.Input(
            "batch_size",
            default=1,
            min=1,
            max=64,
            display_name="batch size",
            tooltip="Number of videos made at once from one seed; each needs as much memory as the first.",
        ),
        io.Combo.Input(
            "size_mode",
            options=list(SIZE_MODES),
            default=EXACT,
            display_name="size mode",
            tooltip="exact: the size given; the image is scaled to cover it and cropped at the centre. image aspect "
            "ratio: the image's own shape with the area of width x height, as in the official code.",
        ),
    ]


def _image_input() -> io.Input:
    return io.Image.Input(
        "start_image",
        optional=True,
        display_name="start image",
        tooltip="The first frame of the video: one image, from 'Load Image'; transparency is ignored. Without it: "
        "text to video.",
    )


def _outputs() -> list[io.Output]:
    return [
        io.Conditioning.Output(
            "positive_conditioning",
            display_name="positive",
            tooltip="The positive prompt, for I2V-A14B with the start image, for the sampler.",
        ),
        io.Conditioning.Output(
            "negative_conditioning",
            display_name="negative",
            tooltip="The negative prompt, for I2V-A14B with the start image, for the sampler.",
        ),
        io.Latent.Output(
            "latent",
            display_name="latent",
            tooltip="The latent of that size, for TI2V-5B with the start image, for the sampler.",
        ),
    ]


NODES = [WanGGUFImageToVideo]

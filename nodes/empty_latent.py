"""Wan GGUF Empty Latent: an empty video latent of a size given in pixels and frames."""

import torch
from comfy_api.latest import io

from ..host.vae import vae_geometry
from ..sampling.latent import latent_shape, validate_frames, validate_size
from .category import CATEGORY
from .graph import refuse_wrong_files

MIN_SIZE_PX = 16
MAX_SIZE_PX = 16384
MAX_FRAMES = 16385


def check_size(width: int | None, height: int | None, frames: int | None) -> None:
    """Raise ValueError for the first value that no Wan VAE allows; None is a linked value, known at execution only."""
    validate_size(MIN_SIZE_PX if width is None else width, MIN_SIZE_PX if height is None else height)
    validate_frames(1 if frames is None else frames)
    limits = {
        "width": (width, MAX_SIZE_PX, "px"),
        "height": (height, MAX_SIZE_PX, "px"),
        "frames": (frames, MAX_FRAMES, ""),
    }
    for name, (value, limit, unit) in limits.items():
        if value is not None and value > limit:
            raise ValueError(f"{name} must be at most {limit} {unit}".rstrip() + f", got {value}")


class WanGGUFEmptyLatent(io.ComfyNode):
    """Schema and calls only; the geometry is in `sampling.latent`."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="WanGGUFEmptyLatent",
            display_name="Wan GGUF Empty Video Latent",
            category=CATEGORY,
            description="Makes an empty video latent of the given size. The number of latent channels and the scale "
            "come from the VAE, so the same node serves Wan2.1, Wan2.2 A14B and Wan2.2 TI2V-5B.",
            search_aliases=["empty video latent", "empty latent", "video size", "空Latent视频", "视频尺寸"],
            inputs=_inputs(),
            outputs=[
                io.Latent.Output(
                    "latent",
                    display_name="latent",
                    tooltip="An empty latent (zeros), for the latent input of a sampler.",
                ),
            ],
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
    def execute(cls, vae, width: int, height: int, frames: int, batch_size: int) -> io.NodeOutput:
        refuse_wrong_files(cls.hidden)
        check_size(width, height, frames)
        channels, spatial_stride = vae_geometry(vae)
        shape = latent_shape(width, height, frames, channels, spatial_stride, batch_size)
        return io.NodeOutput({"samples": torch.zeros(shape)})


def _inputs() -> list[io.Input]:
    return [
        io.Vae.Input(
            "vae",
            display_name="vae",
            tooltip="The VAE that decodes the video afterwards: Wan2.1 (16 channels, 8 px per latent pixel) or "
            "Wan2.2 (48 channels, 16 px).",
        ),
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
    ]


NODES = [WanGGUFEmptyLatent]

"""Text and image to video: the start image encoded, in the form that the model of each VAE takes it.

TI2V-5B (Wan2.2 VAE): the encoded image is the first latent frame; a noise mask, 0 there and 1 elsewhere, has the host
keep that frame clean at every step and tell the model time 0 for it.
I2V-A14B (Wan2.1 VAE): the latent stays empty. The image followed by grey frames (0 in the VAE's range -1 to 1) is
encoded whole and goes into the model's 20 extra channels through the conditioning: `concat_latent_image`, and
`concat_mask`, 0 where the image is known. The host turns that mask into the official one, four channels of 1 there.

What the VAE gives and a LATENT holds is not normalised: the host does (z - mean) / std when it samples.
Source: Wan2.2 wan/textimage2video.py and wan/image2video.py; the host's model_base.py (WAN21, WAN22).
"""

from typing import Any

import comfy.latent_formats
import torch
from comfy.model_patcher import ModelPatcher

from ..sampling.image_size import size_like_image
from ..sampling.latent import latent_shape
from .start_image import check_start_image, cover, stretch
from .vae import KNOWN_VAES, describe_channels, encode_frames, vae_geometry

EXACT, LIKE_IMAGE = "exact", "image aspect ratio"
SIZE_MODES = (EXACT, LIKE_IMAGE)
CONCAT_IMAGE, CONCAT_MASK = "concat_latent_image", "concat_mask"
GREY = 0.5
EXTRA_CHANNELS = 20  # of the I2V models: 4 of the mask, 16 of the encoded image


def image_to_video(
    vae: Any,
    positive: list,
    negative: list,
    image: torch.Tensor | None,
    *,
    width: int,
    height: int,
    frames: int,
    batch_size: int,
    size_mode: str,
) -> tuple[list, list, dict]:
    """VAE, CONDITIONING twice, IMAGE or None, pixels and frames -> the same CONDITIONING with the image, and a LATENT.

    Without an image: CONDITIONING as it came and an empty latent, for text to video. "image aspect ratio" takes width x
    height as an area. Raises ValueError before anything is encoded when inputs do not fit.
    """
    channels, stride = vae_geometry(vae)
    if channels not in KNOWN_VAES:
        files = " or ".join(file for _, file in KNOWN_VAES.values())
        raise ValueError(f"vae: the VAE connected has {describe_channels(channels)}; load {files} with 'Load VAE'")
    if size_mode not in SIZE_MODES:
        raise ValueError(f"size mode: got {size_mode!r}; {' or '.join(SIZE_MODES)} is allowed")
    if image is None:
        shape = latent_shape(width, height, frames, channels, stride, batch_size)
        return positive, negative, {"samples": torch.zeros(shape)}
    image = check_start_image(image)
    if size_mode == LIKE_IMAGE:
        width, height = size_like_image(image.shape[2], image.shape[1], width * height, stride)
    shape = latent_shape(width, height, frames, channels, stride, batch_size)
    if channels == 48:
        return positive, negative, first_frame_latent(vae, cover(image, width, height), shape)
    fit = stretch if size_mode == LIKE_IMAGE else cover
    added = padded_conditioning(vae, fit(image, width, height), frames)
    return with_values(positive, added), with_values(negative, added), {"samples": torch.zeros(shape)}


def first_frame_latent(vae: Any, frame: torch.Tensor, shape: tuple[int, ...]) -> dict:
    """(1, H, W, 3), (B, 48, T, h, w) -> LATENT whose first latent frame is the image, with its noise mask (B, 1, ...).

    The other frames are zeros once the host has normalised them, as if they were empty.
    """
    batch, *single = shape
    samples = comfy.latent_formats.Wan22().process_out(torch.zeros(1, *single))
    samples[:, :, :1] = encode_frames(vae, frame)
    mask = _known_first_frame(single)
    return {"samples": samples.repeat(batch, 1, 1, 1, 1), "noise_mask": mask.repeat(batch, 1, 1, 1, 1)}


def padded_conditioning(vae: Any, frame: torch.Tensor, frames: int) -> dict[str, torch.Tensor]:
    """(1, H, W, 3) -> {"concat_latent_image": (1, 16, T, h, w), "concat_mask": (1, 1, T, h, w)}."""
    video = frame.new_full((frames, *frame.shape[1:]), GREY)
    video[:1] = frame
    encoded = encode_frames(vae, video)
    return {CONCAT_IMAGE: encoded, CONCAT_MASK: _known_first_frame(encoded.shape[1:]).to(encoded)}


def with_values(conditioning: list, added: dict) -> list:
    """A copy of the CONDITIONING with more values in every entry."""
    return [[values, {**extra, **added}] for values, extra in conditioning]


def check_start_image_fits(model: ModelPatcher, samples: torch.Tensor, **conditionings: list) -> None:
    """Raise ValueError unless the CONDITIONING holds a start image where the model takes one, only there, of its size.

    For samplers: the host ignores an image that the model cannot take, and puts zeros where it takes one and has none.
    """
    takes = getattr(model.model.diffusion_model, "in_dim", None)
    if takes is None:
        return
    for name, conditioning in conditionings.items():
        images = [extra.get(CONCAT_IMAGE) for _, extra in conditioning]
        fault = _image_fault(images, takes, samples.shape)
        if fault:
            raise ValueError(f"{name}: {fault}")


def _image_fault(images: list[torch.Tensor | None], takes: int, shape: torch.Size) -> str | None:
    """What is wrong with the start images of one CONDITIONING, for a model of that many channels and that latent."""
    extra, size = takes - shape[1], tuple(shape[2:])
    if extra == 0 and any(image is not None for image in images):
        return (
            f"holds a start image, but the model connected is a text-to-video model ({takes} input channels) and would "
            "not see it; load an I2V model, or connect the prompt directly"
        )
    if extra != EXTRA_CHANNELS:
        return None
    if any(image is None for image in images):
        return (
            f"holds no start image, but the model connected is an image-to-video model ({takes} input channels); "
            "put 'Wan GGUF Image to Video' with an image between prompt and sampler, or load a T2V model"
        )
    other = next((tuple(image.shape[2:]) for image in images if tuple(image.shape[2:]) != size), None)
    return other and (
        f"holds a start image for a latent of {other}, the latent connected is {size} (frames, height, width); "
        "connect all three outputs of one 'Wan GGUF Image to Video'"
    )


def _known_first_frame(shape: Any) -> torch.Tensor:
    """(channels, T, h, w) -> (1, 1, T, h, w): 0 on the first latent frame, 1 elsewhere."""
    mask = torch.ones(1, 1, *shape[1:])
    mask[:, :, :1] = 0
    return mask

"""The start image: what is taken and what is refused, and the two ways to fit it against PIL and torch."""

import numpy as np
import pytest
import torch
from PIL import Image

from wan_gguf.host.start_image import check_start_image, cover, stretch


def picture(width=40, height=24, channels=3) -> torch.Tensor:
    """IMAGE of 8-bit noise."""
    pixels = np.random.default_rng(4).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return torch.from_numpy(pixels.astype(np.float32) / 255)[None]


def as_pil(image: torch.Tensor) -> Image.Image:
    return Image.fromarray((image[0].numpy() * 255).round().astype(np.uint8))


def test_alpha_is_dropped_as_pil_does():
    image = picture(channels=4)
    expected = np.asarray(as_pil(image).convert("RGB")).astype(np.float32) / 255
    assert torch.equal(check_start_image(image)[0], torch.from_numpy(expected))


@pytest.mark.parametrize("shape", [(24, 40, 3), (1, 24, 40, 1), (1, 3, 24, 40), (1, 1, 24, 40, 3), (1, 0, 40, 3)])
def test_what_is_no_image_is_refused(shape):
    with pytest.raises(ValueError, match=r"start image: got shape .*; an image \(1, height, width, 3\) is needed"):
        check_start_image(torch.zeros(shape))


def test_several_images_are_refused():
    with pytest.raises(ValueError, match="start image: got 3 images; one is needed; choose it with 'Get Image from B"):
        check_start_image(torch.zeros(3, 8, 8, 3))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_no_numbers_are_refused(value):
    image = picture()
    image[0, 0, 0, 0] = value
    with pytest.raises(ValueError, match="start image: has NaN or infinite values"):
        check_start_image(image)


@pytest.mark.parametrize(("width", "height"), [(32, 16), (16, 32), (64, 48), (32, 32)])
def test_cover_is_pils_lanczos_and_the_centre(width, height):
    image = picture()
    scale = max(width / 40, height / 24)
    scaled = as_pil(image).resize((round(40 * scale), round(24 * scale)), Image.LANCZOS)
    left, top = (scaled.width - width) // 2, (scaled.height - height) // 2
    expected = np.asarray(scaled)[top : top + height, left : left + width].astype(np.float32) / 255
    assert torch.equal(cover(image, width, height)[0], torch.from_numpy(expected))


def test_an_image_of_the_right_size_passes_unchanged():
    image = picture(32, 16)
    assert torch.equal(cover(image, 32, 16), image)
    assert (stretch(image, 32, 16) - image).abs().max() < 1e-6


def test_values_outside_are_clipped_not_wrapped():
    image = torch.full((1, 16, 32, 3), 1.5)
    image[:, :8] = -0.5
    assert cover(image, 32, 16).unique().tolist() == [0.0, 1.0]


def test_a_picture_that_the_frame_hardly_shows_is_refused():
    with pytest.raises(ValueError, match="start image: is 3000 x 8 px; less than 1/16 of it fits a video of 64 x 32"):
        cover(torch.zeros(1, 8, 3000, 3), 64, 32)


def test_stretch_is_torchs_bicubic_in_the_range_of_the_vae():
    """The official code interpolates 2 x - 1: the same but for rounding, since the weights add up to 1."""
    image = picture()
    official = torch.nn.functional.interpolate((2 * image - 1).movedim(-1, 1), size=(16, 32), mode="bicubic")
    assert (2 * stretch(image, 32, 16) - 1 - official.movedim(1, -1)).abs().max() < 2e-6

"""Latent geometry: shapes of the official sizes, and messages that name the nearest allowed value."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wan_gguf.sampling.latent import (
    frames_to_latent,
    latent_shape,
    latent_to_frames,
    size_multiple,
    validate_frames,
    validate_size,
)


@pytest.mark.parametrize(
    ("pixels", "geometry", "shape"),
    [
        ((832, 480, 81), (16, 8, 1), (1, 16, 21, 60, 104)),  # A14B
        ((1280, 720, 81), (16, 8, 2), (2, 16, 21, 90, 160)),
        ((1280, 704, 121), (48, 16, 1), (1, 48, 31, 44, 80)),  # TI2V-5B
        ((64, 64, 17), (16, 8, 1), (1, 16, 5, 8, 8)),
        ((16, 32, 1), (16, 8, 1), (1, 16, 1, 4, 2)),
    ],
)
def test_latent_shape(pixels, geometry, shape):
    assert latent_shape(*pixels, *geometry) == shape


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (80, "frames must be 1 + a multiple of 4, got 80; nearest: 77 or 81"),
        (3, "frames must be 1 + a multiple of 4, got 3; nearest: 1 or 5"),
        (0, "frames must be 1 + a multiple of 4, got 0; nearest: 1"),
        (-3, "frames must be 1 + a multiple of 4, got -3; nearest: 1"),
        (-400, "frames must be 1 + a multiple of 4, got -400; nearest: 1"),
        (81.0, "frames must be a whole number, got 81.0"),
    ],
)
def test_bad_frames(frames, message):
    with pytest.raises(ValueError) as error:
        validate_frames(frames)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("width", "height", "stride", "message"),
    [
        (830, 480, 8, "width must be a multiple of 16, got 830; nearest: 816 or 832"),
        (832, 481, 8, "height must be a multiple of 16, got 481; nearest: 480 or 496"),
        (1280, 720, 16, "height must be a multiple of 32, got 720; nearest: 704 or 736"),
        (8, 480, 8, "width must be a multiple of 16, got 8; nearest: 16"),
        (0, 480, 8, "width must be a multiple of 16, got 0; nearest: 16"),
        (-32, 480, 16, "width must be a multiple of 32, got -32; nearest: 32"),
        (832, 480, 4, "spatial stride must be 8 (Wan2.1 VAE) or 16 (Wan2.2 VAE), got 4"),
    ],
)
def test_bad_size(width, height, stride, message):
    with pytest.raises(ValueError) as error:
        validate_size(width, height, stride)
    assert str(error.value) == message


def test_bad_channels_and_batch():
    with pytest.raises(ValueError, match="latent channels must be 1 or more, got 0"):
        latent_shape(64, 64, 17, 0, 8, 1)
    with pytest.raises(ValueError, match="batch size must be 1 or more, got -1"):
        latent_shape(64, 64, 17, 16, 8, -1)


@given(st.integers(1, 5000))
def test_frames_round_trip(latent_frames):
    frames = latent_to_frames(latent_frames)
    assert validate_frames(frames) == frames
    assert frames_to_latent(frames) == latent_frames


@given(st.integers(-100, 20000), st.sampled_from([8, 16]))
def test_every_nearest_size_named_is_allowed(width, stride):
    try:
        assert validate_size(width, 64, stride) == (width, 64)
    except ValueError as error:
        for named in str(error).split("nearest: ")[1].split(" or "):
            assert abs(int(named) - width) < size_multiple(stride) or int(named) == size_multiple(stride)
            validate_size(int(named), 64, stride)
    else:
        assert width > 0
        assert width % size_multiple(stride) == 0

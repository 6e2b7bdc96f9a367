"""Geometry of Wan video latents: pixels and frames to (B, C, T, H, W), and the checks on both.

    T = (frames - 1) / 4 + 1        the first frame stands alone, then 4 frames share one latent frame
    H, W = height / s, width / s    s = 8 (Wan2.1 VAE, 16 channels) or 16 (Wan2.2 VAE, 48 channels)

The transformer cuts the latent into 2x2 patches, so sides are multiples of 2s: 16 or 32 pixels.
Source: Wan2.2 wan/configs (vae_stride, patch_size) and wan/text2video.py.
"""

import operator

TEMPORAL_STRIDE = 4
SPATIAL_STRIDES = (8, 16)
SPATIAL_PATCH = 2


def validate_frames(frames: int) -> int:
    """Return `frames` if it is 1, 5, 9, ... Raises ValueError with the nearest allowed counts."""
    return _on_grid("frames", frames, TEMPORAL_STRIDE, offset=1)


def validate_size(width_px: int, height_px: int, spatial_stride: int = 8) -> tuple[int, int]:
    """Return (width_px, height_px) if both fit the stride and the patches. Raises ValueError with the nearest sizes."""
    multiple = size_multiple(spatial_stride)
    return _on_grid("width", width_px, multiple), _on_grid("height", height_px, multiple)


def size_multiple(spatial_stride: int) -> int:
    """Pixels that width and height must be a multiple of: 16 for stride 8, 32 for stride 16."""
    if spatial_stride not in SPATIAL_STRIDES:
        raise ValueError(f"spatial stride must be 8 (Wan2.1 VAE) or 16 (Wan2.2 VAE), got {spatial_stride}")
    return spatial_stride * SPATIAL_PATCH


def frames_to_latent(frames: int) -> int:
    """Video frames -> latent frames: 81 -> 21. Raises ValueError unless frames is 1 + a multiple of 4."""
    return (validate_frames(frames) - 1) // TEMPORAL_STRIDE + 1


def latent_to_frames(latent_frames: int) -> int:
    """Latent frames -> video frames: 21 -> 81."""
    return (_at_least_one("latent frames", latent_frames) - 1) * TEMPORAL_STRIDE + 1


def latent_shape(
    width_px: int, height_px: int, frames: int, channels: int, spatial_stride: int, batch: int = 1
) -> tuple[int, int, int, int, int]:
    """Pixels and frames -> (B, C, T, H, W). Raises ValueError for the first argument that does not fit."""
    width_px, height_px = validate_size(width_px, height_px, spatial_stride)
    latent_frames = frames_to_latent(frames)
    batch, channels = _at_least_one("batch size", batch), _at_least_one("latent channels", channels)
    return batch, channels, latent_frames, height_px // spatial_stride, width_px // spatial_stride


def _on_grid(name: str, value: int, multiple: int, offset: int = 0) -> int:
    number = _whole(name, value)
    smallest = offset or multiple
    below = offset + (number - offset) // multiple * multiple
    if number == below and number >= smallest:
        return number
    nearest = " or ".join(str(n) for n in (below, below + multiple) if n >= smallest) or str(smallest)
    rule = f"1 + a multiple of {multiple}" if offset else f"a multiple of {multiple}"
    raise ValueError(f"{name} must be {rule}, got {number}; nearest: {nearest}")


def _at_least_one(name: str, value: int) -> int:
    number = _whole(name, value)
    if number < 1:
        raise ValueError(f"{name} must be 1 or more, got {number}")
    return number


def _whole(name: str, value: int) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise ValueError(f"{name} must be a whole number, got {value!r}") from None

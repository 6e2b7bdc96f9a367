"""Decoding with the host's VAE, and the checks that a latent and a VAE belong together."""

from typing import Any

import torch

from .steady_vae import steady_vae

TEMPORAL_STRIDE = 4

# latent channels -> what has that many, and the file to load
KNOWN_VAES = {16: ("Wan 2.1 VAE", "wan_2.1_vae.safetensors"), 48: ("Wan 2.2 VAE", "wan2.2_vae.safetensors")}


def vae_geometry(vae: Any) -> tuple[int, int]:
    """(latent channels, pixels per latent pixel) of the host's VAE. Raises ValueError for one that is not a Wan VAE."""
    _check_is_video_vae(vae)
    return int(vae.latent_channels), int(vae.spacial_compression_decode())


def check_vae_matches(vae: Any, latent: dict) -> None:
    """Raise ValueError unless the latent is a video latent with the channels that the VAE decodes."""
    samples = latent["samples"]
    if samples.ndim != 5:
        raise ValueError(
            f"latent: got shape {tuple(samples.shape)}; a video latent (batch, channels, frames, height, width) is "
            "needed; make it with 'Wan GGUF Empty Video Latent'"
        )
    _check_is_video_vae(vae)
    channels, wanted = samples.shape[1], int(vae.latent_channels)
    if channels != wanted:
        remedy = f"load {KNOWN_VAES[channels][1]}" if channels in KNOWN_VAES else "load the VAE the model was made with"
        raise ValueError(
            f"latent has {describe_channels(channels)}, the VAE connected decodes {describe_channels(wanted)}; {remedy}"
        )


def decode_latent(vae: Any, latent: dict) -> torch.Tensor:
    """LATENT -> IMAGE (frames, H, W, 3) float32 in 0 to 1; the videos of a batch follow one another."""
    check_vae_matches(vae, latent)
    # one by one: in a batch a video would come out with other bits than alone
    with steady_vae(vae.first_stage_model):
        return torch.cat([vae.decode(video)[0] for video in latent["samples"].split(1)])


def encode_frames(vae: Any, frames: torch.Tensor) -> torch.Tensor:
    """IMAGE (frames, H, W, 3) -> latent (1, C, T, h, w) as the host encodes it, with steady bits."""
    with steady_vae(vae.first_stage_model):
        return vae.encode(frames)


def describe_channels(channels: int) -> str:
    """16 -> "16 channels (Wan 2.1 VAE)"."""
    return f"{channels} channels" + (f" ({KNOWN_VAES[channels][0]})" if channels in KNOWN_VAES else "")


def _check_is_video_vae(vae: Any) -> None:
    stride = vae.temporal_compression_decode()
    if vae.latent_dim != 3 or stride != TEMPORAL_STRIDE:
        raise ValueError(
            f"vae: the VAE connected is {type(vae.first_stage_model).__name__}, not a Wan video VAE; "
            f"load {' or '.join(file for _, file in KNOWN_VAES.values())} with 'Load VAE'"
        )

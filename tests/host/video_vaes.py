"""Narrow VAEs of both Wan architectures with random weights, loaded as the stock VAELoader does; latents for them."""

import comfy.ldm.wan.vae
import comfy.ldm.wan.vae2_2
import comfy.sd
import torch

CHANNELS, STRIDES = {"2.1": 16, "2.2": 48}, {"2.1": 8, "2.2": 16}


class NarrowWan22VAE(comfy.ldm.wan.vae2_2.WanVAE):
    """The host builds this class in its published width only."""

    def __init__(self, **settings):
        super().__init__(**{**settings, "dim": 8, "dec_dim": 16})


def make_vae(version: str, monkeypatch=None, std: float = 0.2):
    """The host's VAE object, "2.1" or "2.2"; the second needs a MonkeyPatch while it is made."""
    if version == "2.1":
        network = comfy.ldm.wan.vae.WanVAE(dim=8, z_dim=16, temperal_downsample=[False, True, True])
    else:
        network = NarrowWan22VAE(z_dim=48, temperal_downsample=[False, True, True])
        monkeypatch.setattr(comfy.ldm.wan.vae2_2, "WanVAE", NarrowWan22VAE)
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: torch.randn(value.shape, generator=generator) * std for name, value in network.state_dict().items()
    }
    vae = comfy.sd.VAE(sd=weights)
    if monkeypatch is not None:
        monkeypatch.undo()
    return vae


def make_latent(version: str, frames: int, height: int = 4, width: int = 4, batch: int = 1, seed: int = 1) -> dict:
    """LATENT of that many latent frames."""
    shape = (batch, CHANNELS[version], frames, height, width)
    return {"samples": torch.randn(shape, generator=torch.Generator().manual_seed(seed))}

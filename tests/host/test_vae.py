"""Decoding through the host's VAE class, and the checks that latent and VAE belong together."""

import comfy.ldm.wan.vae
import comfy.sd
import pytest
import torch

from wan_gguf.host.vae import check_vae_matches, decode_latent, describe_channels, vae_geometry


@pytest.fixture(scope="module")
def vae():
    """A Wan 2.1 VAE of width 8 with random weights, loaded as the stock VAELoader does."""
    generator = torch.Generator().manual_seed(0)
    network = comfy.ldm.wan.vae.WanVAE(dim=8, z_dim=16, temperal_downsample=[False, True, True])
    weights = {
        name: torch.randn(value.shape, generator=generator) * 0.2 for name, value in network.state_dict().items()
    }
    return comfy.sd.VAE(sd=weights)


class Wan22VAE:
    """What the checks read of the host's VAE object for Wan 2.2."""

    latent_channels, latent_dim = 48, 3

    def spacial_compression_decode(self):
        return 16

    def temporal_compression_decode(self):
        return 4


class ImageVAE:
    """The same of a VAE for images."""

    latent_channels, latent_dim = 4, 2
    first_stage_model = torch.nn.Identity()

    def temporal_compression_decode(self):
        return None


def latent(channels=16, frames=2, batch=1):
    generator = torch.Generator().manual_seed(1)
    return {"samples": torch.randn(batch, channels, frames, 4, 4, generator=generator)}


def test_geometry_of_both_vaes(vae):
    assert vae_geometry(vae) == (16, 8)
    assert vae_geometry(Wan22VAE()) == (48, 16)


def test_decode_gives_the_frames_of_the_host(vae):
    images = decode_latent(vae, latent())
    assert images.shape == (5, 32, 32, 3)
    assert torch.equal(images, vae.decode(latent()["samples"])[0])
    assert images.dtype == torch.float32
    assert 0 <= images.min() < images.max() <= 1


def test_a_batch_is_decoded_video_after_video(vae):
    images = decode_latent(vae, latent(batch=2))
    assert images.shape == (10, 32, 32, 3)
    assert torch.equal(images, torch.cat([vae.decode(video)[0] for video in latent(batch=2)["samples"].split(1)]))


def test_the_wrong_vae_is_refused_with_the_right_file():
    message = (
        r"latent has 16 channels \(Wan 2.1 VAE\), the VAE connected decodes 48 channels \(Wan 2.2 VAE\); "
        r"load wan_2.1_vae.safetensors"
    )
    with pytest.raises(ValueError, match=message):
        decode_latent(Wan22VAE(), latent())


def test_the_wrong_vae_the_other_way_round(vae):
    with pytest.raises(ValueError, match=r"latent has 48 channels .* decodes 16 .* load wan2.2_vae.safetensors"):
        check_vae_matches(vae, latent(channels=48))


def test_channels_of_no_known_vae(vae):
    with pytest.raises(ValueError, match=r"latent has 12 channels, .*; load the VAE the model was made with"):
        check_vae_matches(vae, latent(channels=12))
    assert describe_channels(12) == "12 channels"


def test_an_image_latent_is_refused(vae):
    with pytest.raises(ValueError, match=r"latent: got shape \(1, 16, 4, 4\); a video latent"):
        decode_latent(vae, {"samples": torch.zeros(1, 16, 4, 4)})


@pytest.mark.parametrize("call", [vae_geometry, lambda vae: check_vae_matches(vae, latent())])
def test_an_image_vae_is_refused(call):
    with pytest.raises(ValueError, match=r"vae: the VAE connected is Identity, not a Wan video VAE; load wan_2.1"):
        call(ImageVAE())

"""Wan GGUF Image to Video in a workflow: prompt and image become frames, with one expert and with two."""

import pytest
import torch

import nodes as host_nodes
from wan_gguf.host.models import load_diffusion_model
from wan_gguf.nodes.image_to_video import WanGGUFImageToVideo
from wan_gguf.nodes.sampler import WanGGUFSampler
from wan_gguf.nodes.vae_decode import WanGGUFVAEDecode
from wan_gguf.tests.loaders.build import gguf_bytes
from wan_gguf.tests.loaders.models import wan_tensors

pytestmark = pytest.mark.usefixtures("host_folders", "as_the_host_runs_nodes")

TEXT_DIM = 64
SIZE = {"width": 64, "height": 32, "frames": 5, "batch_size": 1, "size_mode": "exact"}
SETTINGS = {"seed": 1, "steps": 4, "cfg": 2.0, "shift": 5.0, "solver": "unipc", "cfg_mode": "batched"}


@pytest.fixture
def make_model(tmp_path):
    """make_model(seed) -> a tiny model of 36 input channels, as I2V-A14B has them."""

    def make(seed):
        tensors = wan_tensors(128, 128, 36, 16, 1, quantised="F32", plain="F32", text_dim=TEXT_DIM)
        generator = torch.Generator().manual_seed(seed)
        contents = {}
        for name, (_, shape) in tensors.items():
            values = torch.randn(shape, generator=generator) * 0.05 + ("norm" in name and name.endswith("weight"))
            contents[name] = values.numpy().tobytes()
        path = tmp_path / f"i2v_{seed}.gguf"
        path.write_bytes(gguf_bytes(tensors, contents=contents))
        return load_diffusion_model(path, "fp32")

    return make


@pytest.fixture
def vae():
    return host_nodes.VAELoader().load_vae("vae.safetensors")[0]


@pytest.fixture
def prompts():
    generator = torch.Generator().manual_seed(6)
    return [[[torch.randn(1, 12, TEXT_DIM, generator=generator), {}]] for _ in range(2)]


def image(value=0.8):
    return torch.full((1, 48, 64, 3), value)


def frames(model, prompts, vae, start_image, **more):
    inputs = WanGGUFImageToVideo.execute(*prompts, vae, **SIZE, start_image=start_image).args
    names = ("model", "positive", "negative", "latent")
    settings = {**dict(zip(names, (model, *inputs), strict=True)), **SETTINGS, **more}
    (latent,) = WanGGUFSampler.execute(**{name: [value] for name, value in settings.items()}).args[0]
    return WanGGUFVAEDecode.execute(latent, vae).args[0]


def test_an_image_becomes_frames(make_model, prompts, vae):
    model = make_model(0)
    found = frames(model, prompts, vae, image())
    assert found.shape == (5, 32, 64, 3)
    assert torch.isfinite(found).all()
    assert not torch.equal(found, frames(model, prompts, vae, image(0.1)))


def test_both_experts_see_the_image(make_model, prompts, vae):
    high, low = make_model(0), make_model(1)
    found = frames(high, prompts, vae, image(), low_noise_model=low)
    assert found.shape == (5, 32, 64, 3)
    assert not torch.equal(found, frames(high, prompts, vae, image()))
    # the low-noise expert alone decides here: the first three of the times 999, 937, 833, 624 are the other's
    seen = []
    low.model.diffusion_model.register_forward_pre_hook(lambda module, args: seen.append(args[0][:, 16:].clone()))
    other = frames(high, prompts, vae, image(), low_noise_model=low, boundary=0.8)
    assert [x.shape[1] for x in seen] == [20]
    assert not torch.equal(other, found)


def test_sizes_are_checked_before_and_at_execution(prompts, vae):
    assert WanGGUFImageToVideo.validate_inputs(width=64, height=32, frames=5) is True
    assert WanGGUFImageToVideo.validate_inputs() is True  # linked
    assert "width must be a multiple of 16" in WanGGUFImageToVideo.validate_inputs(width=40, height=32, frames=5)
    assert "frames must be at most" in WanGGUFImageToVideo.validate_inputs(width=64, height=32, frames=16389)
    with pytest.raises(ValueError, match="frames must be 1"):
        WanGGUFImageToVideo.execute(*prompts, vae, **{**SIZE, "frames": 6})

"""Image to video: at every step the host's model gets what the transformer of diffusers' pipeline gets.

Both sides start from the same image, noise, prompts, weights and VAE, and take unipc on the official schedule.
"""

import comfy.latent_formats
import comfy.model_management
import comfy.sd
import comfy.utils
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanImageToVideoPipeline
from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers
from PIL import Image

from wan_gguf.host.image_conditioning import image_to_video
from wan_gguf.host.models import load_diffusion_model
from wan_gguf.host.sampler import sample_latent
from wan_gguf.sampling.noise import seed_noise
from wan_gguf.sampling.schedules import UNIPC_SIGMA_MAX
from wan_gguf.tests.parity.quantised import relative_error
from wan_gguf.tests.parity.wan_twins import TEXT_DIM, make_twins

# The transformers differ by 3e-6 at most (test_wan.py); guidance 3 can make that five times as large, and every step
# hands it on. Measured: 1e-6 to 4e-6.
TOLERANCE = 2e-5
ROUNDING = 1e-6  # of the first input, which no transformer has touched yet: float32 of the VAE's normalisation
SIZE = {"width": 64, "height": 32, "frames": 9}
STEPS, CFG, SHIFT, SEED = 4, 3.0, 5.0, 5
SETTINGS = {"seed": SEED, "steps": STEPS, "cfg": CFG, "shift": SHIFT, "solver": "unipc", "cfg_mode": "split"}


@pytest.fixture(autouse=True)
def _as_the_host_executes_nodes():
    """The host runs nodes under inference mode and leaves models loaded between them; a test starts with none."""
    with torch.inference_mode():
        yield
        comfy.model_management.unload_all_models()


class HostVae:
    """diffusers' VAE behind the interface of the host's: frames in 0 to 1, latents that are not normalised."""

    latent_dim = 3

    def __init__(self, vae: AutoencoderKLWan):
        self.vae, self.latent_channels = vae, vae.config.z_dim
        self.first_stage_model = vae

    def spacial_compression_decode(self) -> int:
        return self.vae.config.scale_factor_spatial

    def temporal_compression_decode(self) -> int:
        return self.vae.config.scale_factor_temporal

    def encode(self, frames: torch.Tensor) -> torch.Tensor:
        return self.vae.encode((2 * frames - 1).movedim(-1, 0)[None]).latent_dist.mode()


def make_vae(latent_format: comfy.latent_formats.LatentFormat, **config) -> AutoencoderKLWan:
    """A tiny VAE with random weights and the official mean and std of its latents."""
    torch.manual_seed(0)
    mean, std = (getattr(latent_format, name).flatten().tolist() for name in ("latents_mean", "latents_std"))
    return AutoencoderKLWan(base_dim=8, latents_mean=mean, latents_std=std, **config).eval()


@pytest.fixture(scope="module")
def vae21():
    return make_vae(comfy.latent_formats.Wan21(), z_dim=16)


@pytest.fixture(scope="module")
def vae22():
    return make_vae(
        comfy.latent_formats.Wan22(), decoder_base_dim=8, z_dim=48, is_residual=True, in_channels=12, out_channels=12,
        patch_size=2, scale_factor_spatial=16,
    )  # fmt: skip


@pytest.fixture
def image() -> Image.Image:
    """Twice the size of the video, so that both sides scale it."""
    pixels = np.random.default_rng(2).integers(0, 256, (4, 8, 3), dtype=np.uint8)
    size = 2 * SIZE["width"], 2 * SIZE["height"]
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def prompts() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(1, 16, TEXT_DIM, generator=generator) for _ in range(2)]


def official_scheduler() -> UniPCMultistepScheduler:
    """As the published pipelines configure it, on the base sigmas of the official repository."""
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=SHIFT)
    set_timesteps = scheduler.set_timesteps

    def official(steps: int, device: torch.device) -> None:
        set_timesteps(sigmas=np.linspace(UNIPC_SIGMA_MAX, 0, steps + 1)[:-1], device=device)

    scheduler.set_timesteps = official
    return scheduler


def theirs(vae, image, prompts, noise, transformer, transformer_2=None, low_cfg=None, **config):
    """([(x, timestep)] of every call of a transformer, the final normalised latent)."""
    pipeline = WanImageToVideoPipeline(
        tokenizer=None, text_encoder=None, vae=vae, scheduler=official_scheduler(), transformer=transformer,
        transformer_2=transformer_2, **config,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    seen = []

    def watch(module, args, kwargs):
        seen.append((kwargs["hidden_states"].clone(), kwargs["timestep"].clone()))

    hooks = [one.register_forward_pre_hook(watch, with_kwargs=True) for one in (transformer, transformer_2) if one]
    result = pipeline(
        image, prompt_embeds=prompts[0], negative_prompt_embeds=prompts[1], height=SIZE["height"], width=SIZE["width"],
        num_frames=SIZE["frames"], num_inference_steps=STEPS, guidance_scale=CFG, guidance_scale_2=low_cfg,
        latents=noise, output_type="latent",
    )  # fmt: skip
    for hook in hooks:
        hook.remove()
    return seen, result.frames


def ours(vae, image, prompts, model, low_noise_model=None, **settings):
    """The same of our nodes' path."""
    pixels = torch.from_numpy(np.asarray(image).astype(np.float32) / 255)[None]
    conditionings = [[[values, {}]] for values in prompts]
    inputs = image_to_video(HostVae(vae), *conditionings, pixels, **SIZE, batch_size=1, size_mode="exact")
    seen = []
    models = [one for one in (model, low_noise_model) if one is not None]
    hooks = [
        one.model.diffusion_model.register_forward_pre_hook(
            lambda module, args: seen.append((args[0].clone(), args[1].clone()))
        )
        for one in models
    ]
    if low_noise_model is not None:
        settings["low_noise_model"] = low_noise_model
    latent = sample_latent(model, *inputs, **SETTINGS, **settings)
    for hook in hooks:
        hook.remove()
    return seen, model.get_model_object("latent_format").process_in(latent["samples"])


def same_prompt_first(calls: list, expected: list) -> list:
    """diffusers takes the positive prompt first, the host the last of its list: x and times are the same for both."""
    assert len(calls) == len(expected) == 2 * STEPS
    return list(zip(calls, expected, strict=True))


def test_ti2v_5b(tmp_path, vae22, image, prompts):
    """48 channels, a clean first latent frame with time 0, blended in again at each step."""
    twin = make_twins(tmp_path / "wan.gguf", 48, 48)
    noise = seed_noise((1, 48, 3, 2, 4), SEED)
    expected, expected_latent = theirs(vae22, image, prompts, noise, twin, expand_timesteps=True)
    calls, latent = ours(vae22, image, prompts, load_diffusion_model(tmp_path / "wan.gguf", "fp32"))
    clean = expected_latent[:, :, 0]
    for (x, t), (their_x, their_t) in same_prompt_first(calls, expected):
        assert relative_error(x, their_x) <= TOLERANCE
        assert relative_error(x[:, :, 0], clean) <= ROUNDING
        tokens_per_frame = x.shape[-2] * x.shape[-1] // 4
        assert t.shape == (1, 3)
        assert t[0, 0] == 0
        # sigma is t / 1000 in float32 on the way, and times 1000 again: 2^-24 of 1000 twice
        assert (t.repeat_interleave(tokens_per_frame, dim=1) - their_t).abs().max() <= 2e-4
    assert relative_error(calls[0][0], expected[0][0]) <= ROUNDING
    assert relative_error(latent, expected_latent) <= TOLERANCE
    assert relative_error(latent[:, :, 0], clean) <= ROUNDING


def test_i2v_a14b_inputs(tmp_path, vae21, image, prompts):
    """36 channels: noise, four of mask, the encoded image followed by grey."""
    twin = make_twins(tmp_path / "wan.gguf", 36, 16)
    noise = seed_noise((1, 16, 3, 4, 8), SEED)
    expected, expected_latent = theirs(vae21, image, prompts, noise, twin)
    calls, latent = ours(vae21, image, prompts, load_diffusion_model(tmp_path / "wan.gguf", "fp32"))
    for (x, t), (their_x, their_t) in same_prompt_first(calls, expected):
        assert x.shape[1] == 36
        assert torch.equal(x[:, 16:20], their_x[:, 16:20])
        assert relative_error(x[:, 20:], their_x[:, 20:]) <= ROUNDING
        assert relative_error(x, their_x) <= TOLERANCE
        assert (t - their_t).abs().max() <= 2e-4
    assert relative_error(calls[0][0], expected[0][0]) <= ROUNDING
    assert relative_error(latent, expected_latent) <= TOLERANCE


def test_i2v_a14b_with_both_experts(tmp_path, vae21, image, prompts):
    """Times 999, 937, 833, 624 with the boundary at 900: two steps each, at guidance 3 and 2."""
    files = tmp_path / "high.gguf", tmp_path / "low.gguf"
    twins = [make_twins(file, 36, 16) for file in files]
    low = load_diffusion_model(files[1], "fp32")
    for bias in (twins[1].proj_out.bias, low.model.diffusion_model.head.head.bias):
        bias.data.add_(0.5)  # or the experts would be alike
    noise = seed_noise((1, 16, 3, 4, 8), SEED)
    expected, expected_latent = theirs(vae21, image, prompts, noise, *twins, low_cfg=2.0, boundary_ratio=0.9)
    calls, latent = ours(
        vae21, image, prompts, load_diffusion_model(files[0], "fp32"), low, cfg_low_noise=2.0, boundary=0.9
    )
    for (x, t), (their_x, their_t) in same_prompt_first(calls, expected):
        assert relative_error(x, their_x) <= TOLERANCE
        assert (t - their_t).abs().max() <= 2e-4
    assert relative_error(latent, expected_latent) <= TOLERANCE


def test_the_host_encodes_as_diffusers_does(root, image):
    """The padded video through the reference model's VAE, a Wan2.1 VAE of width 8, in both classes."""
    path = root / "reference_model/files/wan_reference_vae.safetensors"
    weights = {name: value.float() for name, value in comfy.utils.load_torch_file(str(path)).items()}
    their_vae = AutoencoderKLWan(base_dim=weights["decoder.head.0.gamma"].shape[0]).eval()
    their_vae.load_state_dict(convert_wan_vae_to_diffusers({name: value.clone() for name, value in weights.items()}))
    encoded = []
    for vae in (comfy.sd.VAE(sd=weights, dtype=torch.float32), HostVae(their_vae)):
        pixels = torch.from_numpy(np.asarray(image).astype(np.float32) / 255)[None]
        positive, _, _ = image_to_video(
            vae, [[torch.zeros(1), {}]], [], pixels, **SIZE, batch_size=1, size_mode="exact"
        )
        encoded.append(comfy.latent_formats.Wan21().process_in(positive[0][1]["concat_latent_image"]))
    assert encoded[0].shape == (1, 16, 3, 4, 8)
    assert relative_error(*encoded) <= TOLERANCE

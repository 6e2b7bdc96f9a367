"""A whole run: our unipc in the host against the loop of diffusers' WanPipeline, from noise to the last latent."""

import numpy as np
import torch
from diffusers import UniPCMultistepScheduler

from wan_gguf.host.models import load_diffusion_model
from wan_gguf.host.sampler import sample_latent
from wan_gguf.sampling.noise import seed_noise
from wan_gguf.tests.parity.quantised import relative_error
from wan_gguf.tests.parity.wan_twins import TEXT_DIM, make_twins

TOLERANCE = 1e-4
SHAPE = (1, 16, 3, 6, 4)
SEED, STEPS, CFG, SHIFT = 11, 4, 4.0, 5.0


def scheduler() -> UniPCMultistepScheduler:
    """With the settings of the published Wan pipelines, and the base sigmas of the official repository: from 0.999."""
    found = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=SHIFT)
    found.set_timesteps(sigmas=np.linspace(0.999, 0, STEPS + 1)[:-1])
    return found


def theirs(twin, x: torch.Tensor, prompts: list[torch.Tensor], cfg: float = CFG) -> torch.Tensor:
    steps = scheduler()
    for t in steps.timesteps:
        cond, uncond = (twin(x, t.expand(1), prompt, return_dict=False)[0] for prompt in prompts)
        x = steps.step(uncond + cfg * (cond - uncond), t, x, return_dict=False)[0]
    return x


def test_unipc_with_guidance(tmp_path):
    """Guidance makes the models' difference up to seven times as large, and every step hands it on: measured 3e-6."""
    twin = make_twins(tmp_path / "wan.gguf", types="Q6_K")
    model = load_diffusion_model(tmp_path / "wan.gguf", "fp32")
    generator = torch.Generator().manual_seed(3)
    prompts = [torch.randn(1, 20, TEXT_DIM, generator=generator) for _ in range(2)]
    latent = sample_latent(
        model, *([[prompt, {}]] for prompt in prompts), {"samples": torch.zeros(SHAPE)},
        seed=SEED, steps=STEPS, cfg=CFG, shift=SHIFT, solver="unipc", cfg_mode="split",
    )  # fmt: skip
    found = model.get_model_object("latent_format").process_in(latent["samples"])
    expected = theirs(twin, seed_noise(SHAPE, SEED), prompts)
    assert relative_error(found, expected) <= TOLERANCE
    assert relative_error(found, theirs(twin, seed_noise(SHAPE, SEED), prompts, cfg=CFG + 0.1)) > TOLERANCE

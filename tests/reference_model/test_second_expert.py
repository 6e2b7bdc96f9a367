"""The second expert of the reference model: better below the boundary, and at home in a run of both."""

import numpy as np
import pytest
import torch

FIRST, SECOND = "wan_reference_dit_f16.gguf", "wan_reference_dit_low_noise_q8_0.gguf"


@pytest.fixture(scope="module")
def pack(root):
    from evaluate import Pack

    return Pack(root / "reference_model" / "files" / FIRST, root / "reference_model" / "files" / SECOND)


@pytest.fixture(scope="module")
def clips(pack):
    """(latents as the model sees them, context): a fresh clip of every held-out combination with an English caption."""
    from captions import caption
    from world import HELD_OUT, draw_clip

    rng = np.random.default_rng(77)
    frames = torch.from_numpy(np.stack([draw_clip(combination, rng)[0] for combination in HELD_OUT]))
    with torch.inference_mode():
        latents = torch.cat([pack.vae.encode(clip) for clip in frames.float()])
        context = pack.conditioning([caption(combination, "en", rng) for combination in HELD_OUT])[0][0]
        return pack.model.get_model_object("latent_format").process_in(latents), context


@torch.inference_mode()
def loss(model, clips, sigmas: tuple[float, ...]) -> torch.Tensor:
    """(clips * sigmas,) squared errors of v = noise - clean, with the same noise in every call."""
    clean, context = clips
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(9))
    errors = []
    for sigma in sigmas:
        x = (1 - sigma) * clean + sigma * noise
        v = model.model.diffusion_model(x, torch.full((len(x),), sigma * 1000), context)
        errors.append((v - (noise - clean)).square().mean(dim=(1, 2, 3, 4)))
    return torch.cat(errors)


def test_the_low_noise_expert_is_the_better_one_below_the_boundary(pack, clips):
    """Paired over clips and noise, so the mean difference is compared with its own standard error."""
    sigmas = (0.3, 0.5, 0.7, 0.85)
    difference = loss(pack.model, clips, sigmas) - loss(pack.low_noise, clips, sigmas)
    assert difference.mean() > 3 * difference.std() / len(difference) ** 0.5


@pytest.mark.long
def test_a_run_of_both_follows_the_prompts(pack):
    """An alarm, not the measurement (`evaluate.py --low-noise`): 10 clips, bounds 3 clips below the gates."""
    from evaluate import evaluate
    from world import HELD_OUT

    settings = {"steps": 12, "cfg": 4.0, "shift": 3.0, "solver": "unipc"}
    result = evaluate(pack, HELD_OUT[::3], 1, settings, None)
    for language in ("en", "zh"):
        assert result["clips_per_language"] == 10
        assert result[language]["color"] >= 0.6, result
        assert result[language]["direction"] >= 0.55, result
        assert result[language]["shape"] >= 0.4, result


@torch.inference_mode()
def test_both_experts_take_part(pack):
    prompts = ["a red circle moves left"]
    settings = {"steps": 4, "cfg": 1.0, "shift": 3.0, "solver": "unipc"}
    together = pack.clips(prompts, "", 5, **settings)
    pair = pack.model, pack.low_noise
    try:
        for model in pair:
            pack.model, pack.low_noise = model, None
            assert not np.array_equal(pack.clips(prompts, "", 5, **settings), together)
    finally:
        pack.model, pack.low_noise = pair

"""Recording what counts while sampling: the sums by hand, what probes measure, and that the run stays as it was."""

import json
from zlib import crc32

import comfy.sample
import folder_paths
import pytest
import torch
from safetensors import safe_open

from wan_gguf.host.calibration import SENSITIVITY_END, SETTINGS_KEY, STRENGTH, record_importance
from wan_gguf.host.models import load_diffusion_model
from wan_gguf.host.sampler import sample_latent
from wan_gguf.sampling.noise import seed_noise

SETTINGS = {"seed": 3, "steps": 4, "cfg": 3.0, "shift": 3.0, "solver": "euler", "cfg_mode": "split"}
LAYERS = 2 * 10 + 6  # two blocks; text, time and projection in front of them, the head behind


@pytest.fixture
def output(tmp_path):
    before = folder_paths.get_output_directory()
    folder_paths.set_output_directory(str(tmp_path))
    yield tmp_path
    folder_paths.set_output_directory(before)


@pytest.fixture
def model(wan_file):
    return load_diffusion_model(wan_file[0], "fp32")


@pytest.fixture
def sample(conditioning):
    def run(model, **changed):
        latent = {"samples": torch.zeros(1, 16, 2, 8, 8)}
        return sample_latent(model, conditioning(1), conditioning(2), latent, **{**SETTINGS, **changed})["samples"]

    return run


def read(path):
    with safe_open(path, "pt") as file:
        names = file.keys()
        return {name: file.get_tensor(name) for name in names}, json.loads(file.metadata()[SETTINGS_KEY])


def test_the_mean_squares_are_those_of_every_layer_s_inputs(output, model, sample):
    seen = {}
    modules = dict(model.model.diffusion_model.named_modules())
    watched = ("blocks.0.self_attn.q", "blocks.1.ffn.2", "text_embedding.0", "head.head")
    handles = [
        modules[name].register_forward_pre_hook(lambda _, x, name=name: seen.setdefault(name, []).append(x[0].clone()))
        for name in watched
    ]
    sample(record_importance(model, "a", 0))
    for handle in handles:
        handle.remove()
    found, settings = read(output / "a_00001_.safetensors")
    assert len(found) == LAYERS
    for name in watched:
        tokens = torch.cat([x.reshape(-1, x.shape[-1]) for x in seen[name]]).double()
        assert torch.allclose(found[f"{name}.weight"], tokens.square().mean(0).float(), rtol=1e-6)
    assert settings["evaluations"] == 4 and settings["model"] == "tiny_0.gguf"


def test_the_run_is_the_same_to_the_last_bit_and_the_record_too(output, model, sample):
    plain = sample(model)
    for _ in range(2):
        assert torch.equal(sample(record_importance(model, "a", 2)), plain)
    first, second = (output / f"a_0000{i}_.safetensors" for i in (1, 2))
    assert first.read_bytes() == second.read_bytes()
    assert not any(
        module._forward_hooks or module._forward_pre_hooks for module in model.model.diffusion_model.modules()
    )


def test_sensitivity_is_what_an_error_of_the_weights_does_to_the_guided_velocity(output, model, sample):
    """One step: the change of the latent itself, of a layer whose weights get the same random error."""
    name = "blocks.1.ffn.0"
    sample(record_importance(model, "a", 1), steps=1)
    found, settings = read(output / "a_00001_.safetensors")
    assert len(found) == 2 * LAYERS and settings["probed_sigmas"] == [1.0]
    layer = dict(model.model.diffusion_model.named_modules())[name]
    weight = layer.weight.dequantize().float()
    normal = torch.randn(weight.shape, generator=torch.Generator().manual_seed(crc32(f"{name}.weight".encode())))
    error = STRENGTH * weight.square().mean().sqrt() * normal
    scaled = model.model.process_latent_in  # back to what the model computes with
    plain = scaled(sample(model, steps=1))
    handle = layer.register_forward_hook(lambda _, x, y: y + x[0] @ error.T)
    changed = scaled(sample(model, steps=1))
    handle.remove()
    noise = seed_noise(plain.shape, SETTINGS["seed"])
    expected = (changed - plain).square().sum() / (plain - noise).square().sum() / STRENGTH**2
    # differences of latents of about 1 that differ in the third digit: 2^-24 / 1e-3 each
    assert found[f"{name}.weight{SENSITIVITY_END}"].item() == pytest.approx(expected.item(), rel=1e-3)


def test_only_steps_between_the_sigmas_count(output, model, sample):
    sigmas = []

    def watch(apply_model, args):
        sigmas.append(round(float(args["timestep"][0]), 3))
        return apply_model(args["input"], args["timestep"], **args["c"])

    watched = model.clone()
    watched.set_model_unet_function_wrapper(watch)
    sample(watched)
    steps = sorted(set(sigmas), reverse=True)
    between = [sigma for sigma in steps if 0.7 <= sigma <= 0.95]
    assert 0 < len(between) < len(steps)
    sample(record_importance(model, "a", 9, 0.7, 0.95))
    _, settings = read(output / "a_00001_.safetensors")
    assert settings["evaluations"] == len(between)
    assert [round(sigma, 3) for sigma in settings["probed_sigmas"]] == between
    with pytest.raises(ValueError, match="no step of this run lies between them"):
        sample(record_importance(model, "a", 1, 0.999, 0.9991), steps=2, shift=1.0)


@pytest.mark.parametrize("bad", [(0.5, 0.5), (-0.1, 1.0), (0.0, 1.5), (0.9, 0.1)])
def test_wrong_sigmas_are_refused_at_once(output, model, bad):
    with pytest.raises(ValueError, match="0 <= min < max <= 1 is allowed"):
        record_importance(model, "a", 0, *bad)


def test_names_that_lead_out_of_the_output_folder_are_refused(output, model):
    with pytest.raises(Exception, match=r"Saving image outside the output folder"):
        record_importance(model, "../a", 0)


def test_stock_samplers_are_recorded_too(output, model, conditioning):
    noise = torch.randn(1, 16, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    comfy.sample.sample(
        record_importance(model, "sub/b", 1), noise, 2, 1.0, "euler", "simple", conditioning(1), conditioning(2),
        torch.zeros_like(noise), disable_pbar=True,
    )  # fmt: skip
    found, settings = read(output / "sub" / "b_00001_.safetensors")
    assert settings["evaluations"] == 2 and len(found) == 2 * LAYERS

"""sample_latent: our schedules and solvers inside the host's guider."""

import comfy.conds
import comfy.model_management
import comfy.model_sampling
import comfy.sample
import pytest
import torch

from wan_gguf.host.models import load_diffusion_model
from wan_gguf.host.paths import REFERENCE_FOLDER
from wan_gguf.host.sampler import sample_latent
from wan_gguf.sampling.noise import seed_noise
from wan_gguf.sampling.schedules import euler_schedule, unipc_schedule
from wan_gguf.sampling.solvers import SOLVERS

SETTINGS = {"seed": 3, "steps": 3, "cfg": 3.0, "shift": 5.0, "solver": "unipc", "cfg_mode": "batched"}


def empty(batch=1, channels=16, frames=2):
    return {"samples": torch.zeros(batch, channels, frames, 8, 8)}


@pytest.fixture
def model(wan_file):
    return load_diffusion_model(wan_file[0])


@pytest.fixture
def sample(model, conditioning):
    """sample(**changed settings) -> the result for the tiny model."""

    def run(model=model, latent=None, positive=None, **changed):
        settings = {**SETTINGS, **changed}
        return sample_latent(model, positive or conditioning(1), conditioning(2), latent or empty(), **settings)

    return run


@pytest.fixture
def calls(model):
    """A clone of the model, and the (batch size, timesteps, which conds) of every call it gets."""
    seen = []
    watched = model.clone()

    def wrapper(apply_model, args):
        sigma = args["timestep"]
        seen.append((args["input"].shape[0], (sigma * 1000).tolist(), args["cond_or_uncond"]))
        return apply_model(args["input"], sigma, **args["c"])

    watched.set_model_unet_function_wrapper(wrapper)
    return watched, seen


def test_euler_matches_the_stock_euler_on_the_same_sigmas(model, sample, conditioning):
    ours = sample(solver="euler", seed=11)["samples"]
    noise = comfy.sample.prepare_noise(empty()["samples"], 11)
    theirs = comfy.sample.sample(
        model, noise, 3, 3.0, "euler", "simple", conditioning(1), conditioning(2), empty()["samples"],
        sigmas=euler_schedule(3, 5.0).sigmas.float(), disable_pbar=True, seed=11,
    )  # fmt: skip
    assert theirs.abs().mean() > 0.5
    # x - sigma * v and back to v loses about 2^-24 * |x| / sigma per evaluation: 1e-6 for |x| up to 12 and the smallest
    # sigma 0.71. Guidance 3 makes five times that, three steps three times: 1.5e-5, twice if the model passes it on.
    assert (ours - theirs).abs().max() < 3e-5


def test_the_noise_is_the_hosts():
    latent = empty(batch=2)["samples"]
    assert torch.equal(seed_noise(latent.shape, 5), comfy.sample.prepare_noise(latent, 5))


def test_unipc_tells_the_model_whole_numbers(sample, calls):
    watched, seen = calls
    sample(watched, steps=4)
    expected = unipc_schedule(4, 5.0).timesteps.tolist()
    assert expected == [float(int(timestep)) for timestep in expected]
    for (_, timesteps, _), timestep in zip(seen, expected, strict=True):
        assert timesteps == pytest.approx([timestep] * 2, abs=1e-3)


@pytest.mark.parametrize("free_memory", [0, 1 << 50])
def test_batched_and_split_do_not_depend_on_free_memory(sample, calls, monkeypatch, free_memory):
    def get_free_memory(device=None, torch_free_too=False):
        return (free_memory, free_memory) if torch_free_too else free_memory

    monkeypatch.setattr(comfy.model_management, "get_free_memory", get_free_memory)
    watched, seen = calls
    sample(watched, cfg_mode="batched")
    assert [(batch, sorted(conds)) for batch, _, conds in seen] == [(2, [0, 1])] * 3
    seen.clear()
    sample(watched, cfg_mode="split")
    assert [batch for batch, _, _ in seen] == [1] * 6
    assert sorted(cond for _, _, conds in seen for cond in conds) == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("cfg_mode", ["batched", "split"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_each_setting_repeats_bit_for_bit(sample, cfg_mode, solver):
    first = sample(cfg_mode=cfg_mode, solver=solver)["samples"]
    torch.manual_seed(99)  # the global generator must not matter
    assert torch.equal(sample(cfg_mode=cfg_mode, solver=solver)["samples"], first)
    assert not torch.equal(sample(cfg_mode=cfg_mode, solver=solver, seed=4)["samples"], first)


def test_batched_and_split_differ_by_rounding_only(sample):
    batched, split = (sample(cfg_mode=mode)["samples"] for mode in ("batched", "split"))
    assert (batched - split).abs().max() < 1e-4


def test_cfg_one_evaluates_the_positive_prompt_only(sample, calls):
    watched, seen = calls
    out = sample(watched, cfg=1.0)
    assert [(batch, conds) for batch, _, conds in seen] == [(1, [0])] * 3
    assert torch.equal(sample(watched, cfg=1.0, cfg_mode="split")["samples"], out["samples"])


def test_a_batch_of_latents_is_one_call(sample, calls):
    watched, seen = calls
    out = sample(watched, latent=empty(batch=2))["samples"]
    assert [batch for batch, _, _ in seen] == [4] * 3
    assert out.shape == (2, 16, 2, 8, 8)
    assert not torch.equal(out[0], out[1])
    seen.clear()
    sample(watched, latent=empty(batch=2), cfg_mode="split")
    assert [batch for batch, _, _ in seen] == [2] * 6


def model_sampling(model, shift):
    """What the stock ModelSamplingSD3 node does."""
    sampling = type(model.get_model_object("model_sampling"))(model.model.model_config)
    sampling.set_parameters(shift=shift, multiplier=1000)
    clone = model.clone()
    clone.add_object_patch("model_sampling", sampling)
    return clone


def test_the_models_own_shift_does_not_enter(model, sample):
    assert torch.equal(sample(model_sampling(model, 1.0))["samples"], sample(model_sampling(model, 12.0))["samples"])
    assert not torch.equal(sample(shift=1.0)["samples"], sample(shift=12.0)["samples"])


def test_conditioning_for_a_part_of_the_run_follows_our_shift(sample, calls, conditioning):
    """At shift 5 half of the run is sigma 0.83: of the sigmas 1, 0.91, 0.71 the first two come before."""
    watched, seen = calls
    values, extra = conditioning(1)[0]
    first_half = [
        [values, {**extra, "start_percent": 0.0, "end_percent": 0.5}],
        [values, {**extra, "start_percent": 0.5}],
    ]
    sample(watched, positive=first_half, solver="euler", cfg=1.0)
    assert [batch for batch, _, _ in seen] == [1, 1, 1]
    only_first = [first_half[0]]
    seen.clear()
    with pytest.raises(RuntimeError, match="the sampled latent is the same everywhere"):  # nothing guides the last step
        sample(watched, positive=only_first, solver="euler", cfg=1.0)
    assert [timesteps for _, timesteps, _ in seen] == [pytest.approx([1000]), pytest.approx([909.09], abs=0.1)]


def test_result_keeps_other_keys_and_records_the_settings(sample):
    out = sample(latent={**empty(), "batch_index": [0], "downscale_ratio_spacial": 8})
    assert out["batch_index"] == [0]
    assert "downscale_ratio_spacial" not in out
    assert out["wan_gguf"] == {
        "model": "tiny_0.gguf",
        "dtype": "float32",
        "mode": "exact",
        "kernels": ["cpu.linear"],
        "device": "cpu",
        "attention": "pytorch",
        "preset": "custom",
        **SETTINGS,
    }
    assert out["samples"].dtype == torch.float32


def test_a_noise_mask_keeps_the_rest_of_the_latent(model, sample):
    kept = torch.randn(1, 16, 2, 8, 8, generator=torch.Generator().manual_seed(8))
    mask = torch.zeros(1, 1, 2, 8, 8)
    mask[:, :, 1] = 1  # only the second latent frame is sampled
    out = sample(latent={"samples": kept, "noise_mask": mask})["samples"]
    assert (out[:, :, 0] - kept[:, :, 0]).abs().max() < 1e-6
    assert (out[:, :, 1] - kept[:, :, 1]).abs().max() > 0.1


def test_progress_and_previews_are_the_hosts(sample, monkeypatch):
    steps = []

    def prepare_callback(model, total):
        return lambda step, denoised, x, total_steps: steps.append((step, total_steps, tuple(denoised.shape)))

    monkeypatch.setattr("latent_preview.prepare_callback", prepare_callback)
    sample()
    assert steps == [(step, 3, (1, 16, 2, 8, 8)) for step in range(3)]


def test_wrong_channels_are_refused_before_the_model_is_loaded(sample):
    message = (
        r"latent has 48 channels \(Wan 2.2 VAE\), the model connected samples 16 channels \(Wan 2.1 VAE\); "
        r"connect wan_2.1_vae.safetensors"
    )
    with pytest.raises(ValueError, match=message):
        sample(latent=empty(channels=48))
    assert not comfy.model_management.current_loaded_models


def test_the_reference_model_asks_for_its_own_vae(sample):
    reference = load_diffusion_model(next(REFERENCE_FOLDER.glob("wan_reference_dit*.gguf")))
    with pytest.raises(ValueError, match=r"connect wan_reference_vae\.safetensors to the node that makes the latent"):
        sample(reference, latent=empty(channels=48))


def test_the_prompt_of_another_text_encoder_is_refused_before_the_model_is_loaded(sample, conditioning):
    with pytest.raises(
        ValueError, match="positive: the encoded prompt is 4096 wide, the model connected takes 256; load"
    ):
        sample(positive=conditioning(1, width=4096))
    assert not comfy.model_management.current_loaded_models


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"latent": {"samples": torch.zeros(1, 16, 8, 8)}}, r"latent: got shape \(1, 16, 8, 8\); a video latent"),
        ({"solver": "heun"}, "solver: got 'heun'; unipc, dpm\\+\\+ or euler is allowed"),
        ({"cfg_mode": "auto"}, "cfg mode: got 'auto'; batched or split is allowed"),
        ({"cfg": 0.5}, "cfg must be from 1.0 to 15.0, got 0.5"),
        ({"cfg": float("nan")}, "cfg must be"),
        ({"steps": 0}, "steps must be"),
        ({"seed": -1}, "seed must be"),
        ({"shift": 0.0}, "shift must be"),
    ],
)
def test_bad_settings_are_refused_before_the_model_is_loaded(sample, changed, message):
    with pytest.raises(ValueError, match=message):
        sample(**changed)
    assert not comfy.model_management.current_loaded_models


def test_a_model_that_is_no_flow_model_is_refused(model, sample):
    class Eps(comfy.model_sampling.ModelSamplingDiscrete, comfy.model_sampling.EPS):
        pass

    other = model.clone()
    other.add_object_patch("model_sampling", Eps(model.model.model_config))
    with pytest.raises(ValueError, match=r"model: the model connected .* is not a flow model"):
        sample(other)


def test_nan_names_the_step(model, sample):
    broken = model.clone()
    evaluations = iter([1.0, float("nan"), float("nan")])
    broken.set_model_sampler_post_cfg_function(lambda args: args["denoised"] * next(evaluations))
    with pytest.raises(RuntimeError, match=r"sampling step 2 of 3: the model gave NaN"):
        sample(broken)


def test_an_interrupt_stops_the_run_and_the_next_run_is_unharmed(model, sample, monkeypatch):
    expected = sample()["samples"]

    def interrupting(model, total):
        return lambda *args: comfy.model_management.interrupt_current_processing()

    with monkeypatch.context() as patch:
        patch.setattr("latent_preview.prepare_callback", interrupting)
        with pytest.raises(comfy.model_management.InterruptProcessingException):
            sample()
    comfy.model_management.interrupt_current_processing(False)
    assert torch.equal(sample()["samples"], expected)


def test_an_interrupt_is_seen_inside_a_step(model, conditioning, sample):
    """A step of a 14B model takes minutes: every layer looks."""
    layers = []

    def interrupt(module, args):
        layers.append(module)
        comfy.model_management.interrupt_current_processing()

    handle = model.model.diffusion_model.blocks[0].self_attn.q.register_forward_pre_hook(interrupt)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        sample()
    handle.remove()
    assert len(layers) == 1


def test_times_that_truncate_to_zero_are_asked_at_one(sample, calls):
    watched, seen = calls
    out = sample(watched, steps=20, shift=0.01, cfg=1.0, latent=empty(frames=1))
    assert unipc_schedule(20, 0.01).timesteps[-1] == 0
    assert min(timesteps[0] for _, timesteps, _ in seen) == pytest.approx(1.0, abs=1e-4)
    assert torch.isfinite(out["samples"]).all()


def test_attention_does_not_depend_on_free_memory(sample, monkeypatch):
    """On a CPU the host's own attention cuts its work by free memory."""
    calls = []
    monkeypatch.setattr(comfy.model_management, "get_free_memory", lambda *args: calls.append(args) or 1 << 40)
    assert sample(cfg=1.0)["wan_gguf"]["attention"] == "pytorch"
    assert all(len(args) < 2 for args in calls)  # attention asks with a second argument


def test_an_attention_another_node_chose_stays(model, sample):
    chosen = model.clone()
    used = []

    def override(function, *args, **kwargs):
        used.append(function)
        return function(*args, **kwargs)

    chosen.model_options["transformer_options"]["optimized_attention_override"] = override
    assert sample(chosen)["wan_gguf"]["attention"] == "override"
    assert used

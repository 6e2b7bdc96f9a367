"""Two experts in one run: the same steps as one model's, the switch, memory, interrupts, LoRAs and refusals."""

import comfy.model_management
import pytest
import torch

from wan_gguf.host import experts as experts_module
from wan_gguf.host.experts import read_ahead
from wan_gguf.host.models import load_diffusion_model
from wan_gguf.host.sampler import describe_run, sample_latent
from wan_gguf.sampling.noise import seed_noise
from wan_gguf.sampling.schedules import SCHEDULES
from wan_gguf.sampling.solvers import SOLVERS, integrate
from wan_gguf.tests.host.watching import free_memory, velocity_of, watched

# 4 steps at shift 5 and boundary 0.875 are 2 + 2 with every solver
SETTINGS = {"seed": 3, "steps": 4, "cfg": 1.0, "shift": 5.0, "solver": "euler", "cfg_mode": "batched"}
SHAPE = (1, 16, 2, 4, 4)


@pytest.fixture
def sample(high, low, conditioning):
    """sample(**changed settings) -> the result of a run with both experts; low_noise_model=None for one model."""

    def run(model=high, low_noise_model=low, latent=None, positive=None, negative=None, **changed):
        settings = {**SETTINGS, **changed, "low_noise_model": low_noise_model}
        latent = latent or {"samples": torch.zeros(SHAPE)}
        return sample_latent(model, positive or conditioning(1), negative or conditioning(2), latent, **settings)

    return run


@pytest.fixture
def steps_seen(monkeypatch):
    """(step, total, denoised) of every preview of the runs that follow."""
    seen = []

    def prepare_callback(model, total):
        return lambda step, denoised, x, steps: seen.append((step, steps, denoised.clone()))

    monkeypatch.setattr("latent_preview.prepare_callback", prepare_callback)
    return seen


@pytest.fixture
def loads(monkeypatch):
    """For every load by the host: (file of the model, files of the models that were loaded at that moment)."""
    seen, load = [], comfy.model_management.load_models_gpu

    def file(patcher):
        return patcher.attachments["wan_gguf"]["model"]

    def spy(models, **settings):
        loaded = [file(entry.model) for entry in comfy.model_management.current_loaded_models]
        seen.append((file(models[0]), loaded))
        return load(models, **settings)

    monkeypatch.setattr(comfy.model_management, "load_models_gpu", spy)
    return seen


@pytest.mark.parametrize("solver", SOLVERS)
def test_twice_the_same_model_is_one_model(sample, high, wan_file, solver):
    twin = load_diffusion_model(wan_file[0])
    one = sample(low_noise_model=None, solver=solver, cfg=3.0)
    two = sample(low_noise_model=twin, solver=solver, cfg=3.0)
    same_object = sample(low_noise_model=high, solver=solver, cfg=3.0)
    assert two["wan_gguf"]["split"] == "2 steps high_noise + 2 steps low_noise (boundary 0.875)"
    assert torch.equal(two["samples"], one["samples"])
    assert torch.equal(same_object["samples"], one["samples"])


@pytest.mark.parametrize("solver", SOLVERS)
def test_two_models_are_one_run_of_the_solver_with_a_velocity_that_switches(sample, high, low, conditioning, solver):
    result = sample(solver=solver, cfg=3.0, cfg_low_noise=2.0)["samples"]
    first, second = velocity_of(high, conditioning, 3.0), velocity_of(low, conditioning, 2.0)

    def velocity(x, timestep):
        return (first if timestep >= 875 else second)(x, timestep)

    expected = integrate(SOLVERS[solver], velocity, seed_noise(SHAPE, 3), SCHEDULES[solver](4, 5.0))
    expected = high.model.process_latent_out(expected)
    alone = sample(low_noise_model=None, solver=solver, cfg=3.0)["samples"]
    assert (result - alone).abs().max() > 1e-2
    # The hand-made velocity passes through process_latent_out and back, two roundings of 6e-8 of values up to 10, over
    # the smallest sigma 0.62; guidance does not widen it (the rounding comes after it); four steps.
    assert (result - expected).abs().max() < 4 * 2 * 6e-8 * 10 / 0.62 * 2


def test_euler_equals_a_hand_made_loop(sample, high, low, conditioning):
    x, sigmas = seed_noise(SHAPE, 3), [1.0, 0.9375, 5 / 6, 0.625, 0.0]
    for i, model in enumerate((high, high, low, low)):
        v = velocity_of(model, conditioning, 1.0)(x, 1000 * sigmas[i])
        x = x + (sigmas[i + 1] - sigmas[i]) * v
    assert (sample()["samples"] - high.model.process_latent_out(x)).abs().max() < 2e-5  # bound as above


@pytest.mark.parametrize(
    ("scales", "high_calls", "low_calls"),
    [
        ({"cfg": 3.0, "cfg_low_noise": 1.0}, [(2, [0, 1])] * 2, [(1, [0])] * 2),
        ({"cfg": 1.0, "cfg_low_noise": 2.0}, [(1, [0])] * 2, [(2, [0, 1])] * 2),
        ({"cfg": 3.0}, [(2, [0, 1])] * 2, [(2, [0, 1])] * 2),  # 0: as cfg
    ],
)
def test_each_expert_has_its_own_guidance(sample, high, low, scales, high_calls, low_calls):
    (first, seen_high), (second, seen_low) = watched(high), watched(low)
    record = sample(first, second, **scales)["wan_gguf"]
    assert (seen_high, seen_low) == (high_calls, low_calls)
    assert (record["cfg"], record["cfg_low_noise"]) == (scales["cfg"], scales.get("cfg_low_noise", scales["cfg"]))


def test_a_lora_on_the_low_noise_expert_changes_the_low_half_only(sample, low, make_lora, add_lora, steps_seen):
    plain = sample()["samples"]
    base = list(steps_seen)
    steps_seen.clear()
    patched = sample(low_noise_model=add_lora(low, make_lora()))["samples"]
    assert [torch.equal(a[2], b[2]) for a, b in zip(base, steps_seen, strict=True)] == [True, True, False, False]
    assert not torch.equal(patched, plain)
    assert torch.equal(sample()["samples"], plain)


def test_two_loras_on_the_same_weights(sample, high, make_lora, add_lora):
    """The experts may share the weights and differ in LoRAs only: the host exchanges them at the switch."""
    one, other = add_lora(high, make_lora(seed=1)), add_lora(high, make_lora(seed=2))
    twin = load_diffusion_model(high.cached_patcher_init[1][0])
    apart = sample(one, add_lora(twin, make_lora(seed=2)))["samples"]
    assert torch.equal(sample(one, other)["samples"], apart)


def test_the_first_expert_leaves_memory_before_the_second_enters(sample, loads, monkeypatch):
    free_memory(monkeypatch, 1)
    sample()
    assert loads == [("tiny_0.gguf", []), ("tiny_1.gguf", [])]


def test_the_first_expert_stays_where_there_is_room_for_both_and_no_byte_changes(sample, loads, monkeypatch):
    with monkeypatch.context() as patch:
        free_memory(patch, 1)
        expected = sample()["samples"]
    comfy.model_management.unload_all_models()
    loads.clear()
    free_memory(monkeypatch, 1 << 50)
    assert torch.equal(sample()["samples"], expected)
    assert loads == [("tiny_0.gguf", []), ("tiny_1.gguf", ["tiny_0.gguf"])]


class FakeReadAhead:
    """Notes what is asked of a ReadAhead, and after how many evaluations."""

    def __init__(self, path, notes, evaluations):
        self.path, self.notes, self.evaluations = path, notes, evaluations

    def start(self):
        self.notes.append(("start", self.path.name, len(self.evaluations)))

    def stop(self):
        self.notes.append(("stop", self.path.name, len(self.evaluations)))


def test_the_second_file_is_read_ahead_during_the_last_step_of_the_first(sample, high, low, monkeypatch):
    (first, seen), notes = watched(high), []
    monkeypatch.setattr(experts_module, "ReadAhead", lambda path: FakeReadAhead(path, notes, seen))
    free_memory(monkeypatch, 1 << 50)
    with_reading = sample(first, low)["samples"]
    assert notes == [("start", "tiny_1.gguf", 1), ("stop", "tiny_1.gguf", 2)]
    notes.clear()
    free_memory(monkeypatch, 1)
    assert torch.equal(sample(first, low)["samples"], with_reading)
    assert notes == []


def test_only_another_file_of_ours_is_read_ahead(high, low, low_file, stock_wan, monkeypatch):
    free_memory(monkeypatch, high.model_size() + low.model_size())
    assert read_ahead(high, low).path == low_file
    assert read_ahead(high, high.clone()) is None
    assert read_ahead(high, stock_wan) is None
    free_memory(monkeypatch, high.model_size() + low.model_size() - 1)
    assert read_ahead(high, low) is None


@pytest.mark.parametrize("interrupted_step", [0, 1, 2])
def test_an_interrupt_in_either_half_leaves_everything_clean(sample, high, low, monkeypatch, interrupted_step):
    expected = sample()["samples"]
    kind, running = type(high), {"tiny_0.gguf": 0, "tiny_1.gguf": 0}  # pre_run less cleanup, of each model

    def counting(method, change):
        def counted(self):
            running[self.attachments["wan_gguf"]["model"]] += change
            return method(self)

        return counted

    def interrupting(model, total):
        def callback(step, *args):
            if step == interrupted_step:
                comfy.model_management.interrupt_current_processing()
                comfy.model_management.throw_exception_if_processing_interrupted()

        return callback

    with monkeypatch.context() as patch:
        patch.setattr(kind, "pre_run", counting(kind.pre_run, 1))
        patch.setattr(kind, "cleanup", counting(kind.cleanup, -1))
        patch.setattr("latent_preview.prepare_callback", interrupting)
        with pytest.raises(comfy.model_management.InterruptProcessingException):
            sample()
    assert running == {"tiny_0.gguf": 0, "tiny_1.gguf": 0}
    assert all("sample_sigmas" not in model.model_options["transformer_options"] for model in (high, low))
    assert torch.equal(sample()["samples"], expected)


def test_progress_counts_the_whole_run(sample, steps_seen):
    sample()
    assert [(step, total) for step, total, _ in steps_seen] == [(0, 4), (1, 4), (2, 4), (3, 4)]


def test_the_split_is_told_before_the_first_step(sample, monkeypatch, caplog):
    caplog.set_level("INFO")
    told = []
    text = "custom: 4 steps, cfg 1, cfg_low_noise 1, shift 5, euler\n2 steps high_noise + 2 steps low_noise"

    def prepare_callback(model, total):
        told.append(text in caplog.text)

    monkeypatch.setattr("latent_preview.prepare_callback", prepare_callback)
    sample()
    assert told == [True]


def test_a_noise_mask_survives_the_switch(sample, wan_file):
    kept = torch.randn(SHAPE, generator=torch.Generator().manual_seed(8))
    mask = torch.zeros(1, 1, 2, 4, 4)
    mask[:, :, 1] = 1  # only the second latent frame is sampled
    latent = {"samples": kept, "noise_mask": mask}
    one = sample(low_noise_model=None, latent=latent, solver="unipc")["samples"]
    two = sample(low_noise_model=load_diffusion_model(wan_file[0]), latent=latent, solver="unipc")["samples"]
    assert torch.equal(two, one)
    assert (two[:, :, 0] - kept[:, :, 0]).abs().max() < 1e-6


def test_an_image_model_is_conditioned_in_both_halves(make_wan, sample, conditioning):
    path = make_wan(seed=2, in_dim=36)[0]
    first, second = load_diffusion_model(path), load_diffusion_model(path)
    values, extra = conditioning(1)[0]
    image = torch.randn(SHAPE, generator=torch.Generator().manual_seed(4))

    def given(image: torch.Tensor) -> dict:
        with_image = [[values, {**extra, "concat_latent_image": image, "concat_mask": torch.zeros(1, 1, 2, 4, 4)}]]
        return {"positive": with_image, "negative": with_image}

    one = sample(first, None, **given(image))["samples"]
    two = sample(first, second, **given(image))
    assert two["wan_gguf"]["boundary"] == 0.9  # the official one of I2V-A14B
    assert torch.equal(two["samples"], one)
    assert not torch.equal(sample(first, second, **given(-image))["samples"], one)


@pytest.mark.parametrize(("boundary", "used"), [(1.0, "tiny_1.gguf"), (0.1, "tiny_0.gguf")])
def test_a_boundary_at_either_end_uses_one_expert_only(sample, low, high, loads, caplog, boundary, used):
    out = sample(boundary=boundary, solver="unipc")
    assert [file for file, _ in loads] == [used]
    assert "has no steps and is not used" in caplog.text
    alone = sample({"tiny_0.gguf": high, "tiny_1.gguf": low}[used], None, solver="unipc")
    assert torch.equal(out["samples"], alone["samples"])


def test_the_record_names_both_models_and_the_split(sample):
    record = sample(cfg=3.0, cfg_low_noise=2.0)["wan_gguf"]
    model = {"dtype": "float32", "mode": "exact", "kernels": ["cpu.linear"], "device": "cpu", "attention": "pytorch"}
    assert record == {
        **{"model": "tiny_0.gguf", **model},
        **{f"low_noise_{key}": value for key, value in {"model": "tiny_1.gguf", **model}.items()},
        **SETTINGS,
        "cfg": 3.0,
        "cfg_low_noise": 2.0,
        "boundary": 0.875,
        "preset": "custom",
        "split": "2 steps high_noise + 2 steps low_noise (boundary 0.875)",
    }
    assert describe_run(record).splitlines() == [
        "custom: 4 steps, cfg 3, cfg_low_noise 2, shift 5, euler",
        "2 steps high_noise + 2 steps low_noise (boundary 0.875)",
    ]


def test_a_preset_replaces_the_values_and_is_recorded(sample, high, low, monkeypatch):
    for model in (high, low):
        monkeypatch.setitem(model.model.model_config.unet_config, "dim", 5120)  # as T2V-A14B
    out = sample(steps=9, cfg=7.0, shift=1.0, solver="unipc", boundary=0.1, preset="4-step (lightx2v LoRA)")
    expected = {"steps": 4, "cfg": 1.0, "cfg_low_noise": 1.0, "shift": 5.0, "solver": "euler", "boundary": 0.875}
    assert out["wan_gguf"].items() >= {**expected, "preset": "4-step (lightx2v LoRA)"}.items()
    assert torch.equal(out["samples"], sample()["samples"])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"boundary": 1.5}, "boundary must be from 0.0 to 1.0, got 1.5"),
        ({"boundary": float("nan")}, "boundary must be"),
        ({"cfg_low_noise": 0.5}, "cfg_low_noise must be from 1.0 to 15.0, got 0.5"),
        ({"preset": "fast"}, "preset: got 'fast'; custom, official, .* is allowed"),
        ({"preset": "official"}, r"preset 'official': the model connected \(dim 256, in_dim 16\) is none of"),
    ],
)
def test_bad_settings_are_refused_before_a_model_is_loaded(sample, changed, message):
    with pytest.raises(ValueError, match=message):
        sample(**changed)
    assert not comfy.model_management.current_loaded_models


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"in_dim": 48, "out_dim": 48}, r"low_noise_model: the model connected is TI2V-5B \(48 channels\)"),
        ({"in_dim": 36}, "low_noise_model takes 36 input channels, model takes 16"),
        ({"text_dim": 512}, "positive: the encoded prompt is 256 wide, the model connected takes 512"),
    ],
)
def test_models_that_are_no_pair_are_refused_before_one_is_loaded(make_wan, sample, config, message):
    other = load_diffusion_model(make_wan(seed=3, **config)[0])
    with pytest.raises(ValueError, match=message):
        sample(low_noise_model=other)
    assert not comfy.model_management.current_loaded_models


def test_nan_in_the_second_half_names_the_step_of_the_whole_run(sample, low):
    broken = low.clone()
    broken.set_model_sampler_post_cfg_function(lambda args: args["denoised"] * float("nan"))
    with pytest.raises(RuntimeError, match="sampling step 3 of 4: the model gave NaN"):
        sample(low_noise_model=broken)

"""The host's ways of sharing a device's memory, on an emulated accelerator: what moves, what stays, what comes back.

Whole, partial and no residence must give the same bits: the same kernels run on the same numbers, wherever the bytes
lie between two calls. After unloading, nothing is left on the device and packed weights are the mapped file again.
"""

import comfy.model_management
import pytest
import torch
from comfy.quant_ops import QuantizedTensor

from wan_gguf.host.models import load_diffusion_model
from wan_gguf.host.operations import PackedWeightMixin
from wan_gguf.host.text_encoder import load_text_encoder
from wan_gguf.ops import linear as ops_linear
from wan_gguf.tests.host.accelerator import (
    CPU,
    DEVICE,
    Accelerator,
    bytes_left,
    bytes_on_device,
    install,
    set_free_bytes,
)

MODES = ["whole", "part", "none"]


@pytest.fixture(autouse=True)
def accelerator(monkeypatch):
    """The device exists for as long as a test runs."""
    with Accelerator():
        install(monkeypatch)
        yield
        comfy.model_management.unload_all_models()


@pytest.fixture
def enter_mode(monkeypatch):
    """enter_mode(mode, model): let the host find room for the whole model or a part of it, or forbid it to keep any."""
    states = comfy.model_management.VRAMState

    def enter(mode, model):
        monkeypatch.setattr(comfy.model_management, "vram_state", states.NO_VRAM if mode == "none" else states.LOW_VRAM)
        set_free_bytes(monkeypatch, model.model_size() if mode == "part" else 1 << 40)

    return enter


def packed_layers(model):
    modules = model.model.named_modules()
    return {name: m for name, m in modules if isinstance(m, PackedWeightMixin) and m.packed is not None}


def resident(model):
    """Names of the packed layers whose weights lie on the device; all others must be the mapped file."""
    on_device = set()
    for name, layer in packed_layers(model).items():
        assert type(layer.weight) is QuantizedTensor, name
        if layer.weight.device == DEVICE:
            on_device.add(name)
        else:
            assert layer.weight._qdata.data_ptr() == layer.packed.data.data_ptr(), name
    return on_device


@pytest.fixture
def sample(ksample):
    """sample(model, seed=7) -> latent; without guidance, since the host batches or splits it by free memory."""
    return lambda model, seed=7: ksample(model, steps=1, cfg=1.0, seed=seed)


@pytest.fixture
def model(wan_file):
    return load_diffusion_model(wan_file[0], "fp32")


def test_the_emulation_refuses_what_a_device_refuses():
    there = torch.ones(3).to(DEVICE)
    with pytest.raises(RuntimeError, match="is on the CPU, another on the device"):
        there + torch.ones(3)
    assert there.device == DEVICE and there.cpu().device == CPU
    before = bytes_on_device()
    more = torch.zeros(5, device=DEVICE)
    assert bytes_on_device() - before == 20
    del more
    assert bytes_on_device() == before


@pytest.mark.parametrize("with_lora", [False, True])
def test_residence_changes_no_bit_and_unloading_leaves_nothing(
    model, sample, enter_mode, make_lora, add_lora, with_lora
):
    model = add_lora(model, make_lora()) if with_lora else model
    names, sampled = set(packed_layers(model)), {}
    for mode in MODES:
        enter_mode(mode, model)
        sampled[mode] = sample(model)
        found = resident(model)
        assert {"whole": found == names, "part": set() < found < names, "none": not found}[mode], mode
        comfy.model_management.unload_all_models()
        assert not resident(model)
        assert bytes_left() == 0, mode
    assert sampled["whole"].abs().mean() > 0.5
    for mode in MODES[1:]:
        assert torch.equal(sampled[mode], sampled["whole"]), mode


@pytest.mark.parametrize("with_lora", [False, True])
def test_a_model_pushed_out_in_parts_and_loaded_again(model, sample, make_lora, add_lora, monkeypatch, with_lora):
    model = add_lora(model, make_lora()) if with_lora else model
    expected = sample(model)
    everything, loaded = resident(model), bytes_on_device()
    freed = model.partially_unload(CPU, model.model_size() // 2)
    remaining = resident(model)
    assert set() < remaining < everything
    assert loaded - bytes_on_device() >= freed > 0
    set_free_bytes(monkeypatch, 0)  # no room: the host pushes out more of it
    assert torch.equal(sample(model), expected)
    assert resident(model) < remaining
    set_free_bytes(monkeypatch, 1 << 40)
    assert torch.equal(sample(model), expected)
    assert resident(model) == everything
    comfy.model_management.unload_all_models()
    assert bytes_left() == 0
    assert torch.equal(sample(model), expected)


def test_a_lora_goes_on_and_off_while_the_model_is_loaded_in_part(model, sample, enter_mode, make_lora, add_lora):
    before, with_lora = sample(model), sample(add_lora(model, make_lora()))
    enter_mode("part", model)
    assert torch.equal(sample(model), before)
    assert torch.equal(sample(add_lora(model, make_lora())), with_lora)
    assert torch.equal(sample(model), before)
    comfy.model_management.unload_all_models()
    assert bytes_left() == 0


@pytest.mark.parametrize("mode", MODES)
def test_runs_leave_on_the_device_what_was_loaded_and_nothing_else(model, sample, enter_mode, mode):
    enter_mode(mode, model)
    sample(model)
    after_first = bytes_on_device()
    assert after_first <= model.model_size()
    assert (after_first == model.model_size()) == (mode == "whole")
    for seed in (1, 2):
        sample(model, seed=seed)
        assert bytes_on_device() == after_first


@pytest.mark.parametrize("mode", ["whole", "none"])
def test_mode_int8_leaves_nothing_on_the_device(wan_file, sample, enter_mode, monkeypatch, mode):
    """The scales of its rows are found once and kept, but not on a device the model has left."""
    monkeypatch.setattr(ops_linear, "MIN_TOKENS", 1)  # the tiny latent has fewer tokens than int8 is worth
    model = load_diffusion_model(wan_file[0], "fp32", "int8")
    expected = sample(model)
    comfy.model_management.unload_all_models()
    enter_mode(mode, model)
    assert torch.equal(sample(model), expected)
    comfy.model_management.unload_all_models()
    assert bytes_left() == 0
    scales = [layer.row_scale for layer in packed_layers(model).values() if layer.row_scale is not None]
    assert scales and {scale.device for scale in scales} == {CPU}


@pytest.mark.parametrize("mode", MODES)
def test_the_text_encoder_comes_and_goes(umt5_file, enter_mode, mode):
    clip = load_text_encoder(umt5_file[0])
    expected = clip.encode_from_tokens_scheduled(clip.tokenize("a red circle 红色的"))[0][0]
    enter_mode(mode, clip.patcher)
    comfy.model_management.unload_all_models()
    assert torch.equal(clip.encode_from_tokens_scheduled(clip.tokenize("a red circle 红色的"))[0][0], expected)
    comfy.model_management.unload_all_models()
    assert not resident(clip.patcher)
    assert bytes_left() == 0


def test_the_second_expert_pushes_out_the_first(make_wan, model, sample, monkeypatch):
    other = load_diffusion_model(make_wan(seed=1)[0], "fp32")
    first, second = sample(model), sample(other)
    comfy.model_management.unload_all_models()
    set_free_bytes(monkeypatch, int(1.6 * model.model_size()))  # room for one
    assert torch.equal(sample(model), first)
    assert torch.equal(sample(other), second)
    assert len(resident(model)) < len(resident(other))
    assert torch.equal(sample(model), first)

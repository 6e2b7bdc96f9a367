"""The host's dynamic VRAM, emulated without a GPU: its patcher, staging and casting run, the VRAM is ordinary memory.

The device is torch.device("cpu", 0), which compares unequal to where the weights lie; the host is told it is no CPU.
Buffers of comfy-aimdo become byte tensors. Two regimes: every layer stays resident, or is staged anew each time.
"""

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.pinned_memory
import comfy.sample
import comfy.sd
import comfy_aimdo.host_buffer
import comfy_aimdo.model_vbar
import comfy_aimdo.torch
import pytest
import torch
from comfy.quant_ops import QuantizedTensor

from wan_gguf.host.models import load_diffusion_model
from wan_gguf.host.patcher import PackedModelPatcher, PackedModelPatcherDynamic
from wan_gguf.host.text_encoder import load_text_encoder

DEVICE = torch.device("cpu", 0)
TOLERANCE = 1e-4  # as in test_lora.py: the host makes small layers dense, whose products are summed in another order


class _VRAM:
    def __init__(self, size, device):
        self.allocated = 0

    def alloc(self, size):
        self.allocated += size
        return torch.zeros(size, dtype=torch.uint8)

    def prioritize(self):
        pass

    def loaded_size(self):
        return 0

    def free_memory(self, size):
        return 0


class _HostBuffer:
    size = 0

    def __init__(self, *args):
        pass


@pytest.fixture(params=["resident", "staged"])
def dynamic_vram(request, monkeypatch):
    """The emulation; its value is the number of layers that were staged so far, in a list of one."""
    staged = [0]
    signature = 1 if request.param == "resident" else None
    management, vbar = comfy.model_management, comfy_aimdo.model_vbar
    monkeypatch.setattr(management, "is_device_cpu", lambda device: device == torch.device("cpu"))
    monkeypatch.setattr(management, "get_torch_device", lambda: DEVICE)
    monkeypatch.setattr(management, "get_offload_stream", lambda device: None)
    monkeypatch.setattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcherDynamic)
    monkeypatch.setattr(comfy_aimdo.host_buffer, "HostBuffer", _HostBuffer)
    monkeypatch.setattr(comfy_aimdo.torch, "aimdo_to_tensor", lambda allocation, device: allocation)
    monkeypatch.setattr(comfy.pinned_memory, "get_pin", lambda *args, **kwargs: None)
    monkeypatch.setattr(comfy.pinned_memory, "pin_memory", lambda *args, **kwargs: None)
    monkeypatch.setattr(vbar, "ModelVBAR", _VRAM)
    monkeypatch.setattr(vbar, "vbar_fault", lambda allocation: signature)
    monkeypatch.setattr(vbar, "vbar_signature_compare", lambda a, b: a is not None and a == b)
    monkeypatch.setattr(vbar, "vbar_unpin", lambda allocation: None)
    cast = comfy.ops.cast_bias_weight

    def cast_to_the_device(s, input=None, dtype=None, device=None, **kwargs):
        staged[0] += int(hasattr(s, "_v") and isinstance(s.weight, QuantizedTensor))
        return cast(s, input, dtype, DEVICE, **kwargs)

    monkeypatch.setattr(comfy.ops, "cast_bias_weight", cast_to_the_device)
    return staged


@pytest.fixture
def plain(wan_file, ksample, make_lora, add_lora):
    """Latents without dynamic VRAM, of the model and with a LoRA; requested before `dynamic_vram`."""
    model = load_diffusion_model(wan_file[0])
    return ksample(model), ksample(add_lora(model, make_lora()))


def test_sampling_under_dynamic_vram_gives_the_same(plain, dynamic_vram, wan_file, ksample):
    model = load_diffusion_model(wan_file[0])
    assert type(model) is PackedModelPatcherDynamic
    sampled = ksample(model)
    assert (sampled - plain[0]).abs().max() < TOLERANCE
    assert torch.equal(ksample(model), sampled)
    assert dynamic_vram[0] > 0


def test_lora_added_and_removed_under_dynamic_vram(plain, dynamic_vram, wan_file, ksample, make_lora, add_lora):
    model = load_diffusion_model(wan_file[0])
    before = ksample(model)
    with_lora = add_lora(model, make_lora())
    assert type(with_lora) is PackedModelPatcherDynamic
    # one layer of the LoRA is small: the host makes it dense, and the LoRA goes into the weight, which rounds otherwise
    assert (ksample(with_lora) - plain[1]).abs().max() < TOLERANCE
    assert torch.equal(ksample(model), before)
    assert (ksample(with_lora) - plain[1]).abs().max() < TOLERANCE


def test_stacked_loras_under_dynamic_vram(wan_file, stock_wan, dynamic_vram, ksample, make_lora, add_lora):
    layers = ("blocks.0.self_attn.q", "blocks.1.ffn.2")
    model = load_diffusion_model(wan_file[0])
    before, both, stock = ksample(model), model, stock_wan
    for seed in (1, 2):
        both, stock = (add_lora(patcher, make_lora(seed, layers=layers)) for patcher in (both, stock))
    stacked = ksample(both)
    kept = both.model.diffusion_model.blocks[0].self_attn.q.kept_side_path
    assert kept.up.shape == (256, 16)
    assert (stacked - ksample(stock)).abs().max() < TOLERANCE
    assert (stacked - before).abs().max() > 0.05
    assert torch.equal(ksample(model), before)
    model.detach()
    assert both.model.diffusion_model.blocks[0].self_attn.q.kept_side_path is None


@pytest.fixture
def plain_prompt(umt5_file):
    """An encoded prompt without dynamic VRAM; requested before `dynamic_vram`."""
    clip = load_text_encoder(umt5_file[0])
    return clip.encode_from_tokens_scheduled(clip.tokenize("a red circle 红色的"))[0][0]


def test_the_text_encoder_under_dynamic_vram_is_exact(plain_prompt, dynamic_vram, umt5_file, monkeypatch):
    monkeypatch.setattr(comfy.model_management, "text_encoder_device", lambda: DEVICE)
    clip = load_text_encoder(umt5_file[0])
    assert type(clip.patcher) is PackedModelPatcherDynamic
    assert torch.equal(clip.encode_from_tokens_scheduled(clip.tokenize("a red circle 红色的"))[0][0], plain_prompt)


def test_a_hook_uses_a_copy_without_dynamic_vram(plain, dynamic_vram, wan_file, make_lora, add_lora):
    model = add_lora(load_diffusion_model(wan_file[0]), make_lora())
    delegate = model.get_non_dynamic_delegate()
    assert type(delegate) is PackedModelPatcher
    assert delegate.model is not model.model
    assert delegate.weight_wrapper_patches.keys() == model.weight_wrapper_patches.keys()


def test_dynamic_vram_can_be_switched_off(dynamic_vram, wan_file):
    assert type(load_diffusion_model(wan_file[0], disable_dynamic=True)) is PackedModelPatcher


def test_a_dynamic_patcher_sent_to_the_cpu_is_still_ours(dynamic_vram, wan_file):
    model = load_diffusion_model(wan_file[0])
    moved = PackedModelPatcherDynamic(model.model, torch.device("cpu"), torch.device("cpu"))
    assert type(moved) is PackedModelPatcher

"""The host's dynamic VRAM on an emulated accelerator: its patcher, staging and casting run; comfy-aimdo does not.

comfy-aimdo's buffers become byte tensors on the device. Two regimes: every layer stays where it was staged, or is
staged anew each time. Without dynamic VRAM the same kernels run on the same bytes, so results must be equal bit for
bit; only where the host makes a small layer dense is the product another one.
"""

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.pinned_memory
import comfy_aimdo.host_buffer
import comfy_aimdo.model_vbar
import comfy_aimdo.torch
import pytest
import torch
from comfy.model_patcher import ModelPatcher
from comfy.quant_ops import QuantizedTensor

from wan_gguf.host.models import load_diffusion_model
from wan_gguf.host.operations import PackedWeightMixin
from wan_gguf.host.patcher import PackedModelPatcher, PackedModelPatcherDynamic
from wan_gguf.host.text_encoder import load_text_encoder
from wan_gguf.ops import linear as ops_linear
from wan_gguf.tests.host.accelerator import CPU, DEVICE, Accelerator, install

TOLERANCE = 1e-4  # as in test_lora.py: the host makes small layers dense, whose products are summed in another order


class _VRAM:
    def __init__(self, size, device):
        self.allocated = 0

    def alloc(self, size):
        self.allocated += size
        return torch.zeros(size, dtype=torch.uint8, device=DEVICE)

    def prioritize(self):
        pass

    def loaded_size(self):
        return 0

    def free_memory(self, size):
        return 0


def _load_list(patcher, for_dynamic=False, default_device=None, original=ModelPatcher._load_list):
    """As the host's, which sends the parameters of inner modules to the device by `.data =`: not for two devices."""
    for module in patcher.model.modules() if default_device is not None else ():
        own = dict(module.named_parameters(recurse=False))
        if own.keys() != dict(module.named_parameters()).keys():
            moved = {name: torch.nn.Parameter(param.to(default_device), False) for name, param in own.items()}
            module._parameters.update(moved)
    return original(patcher, for_dynamic)


class _HostBuffer:
    size = 0

    def __init__(self, *args):
        pass


@pytest.fixture(autouse=True)
def accelerator(monkeypatch):
    """The device exists for as long as a test runs."""
    with Accelerator():
        install(monkeypatch)
        yield
        comfy.model_management.unload_all_models()


@pytest.fixture(params=["resident", "staged"])
def dynamic_vram(request, monkeypatch):
    """Switches it on; its value is the number of packed weights that were staged so far, in a list of one."""
    staged = [0]
    signature = 1 if request.param == "resident" else None
    vbar = comfy_aimdo.model_vbar
    monkeypatch.setattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcherDynamic)
    monkeypatch.setattr(ModelPatcher, "_load_list", _load_list)
    monkeypatch.setattr(comfy_aimdo.host_buffer, "HostBuffer", _HostBuffer)
    monkeypatch.setattr(comfy_aimdo.torch, "aimdo_to_tensor", lambda allocation, device: allocation)
    monkeypatch.setattr(comfy.pinned_memory, "get_pin", lambda *args, **kwargs: None)
    monkeypatch.setattr(comfy.pinned_memory, "pin_memory", lambda *args, **kwargs: None)
    monkeypatch.setattr(vbar, "ModelVBAR", _VRAM)
    monkeypatch.setattr(vbar, "vbar_fault", lambda allocation: signature)
    monkeypatch.setattr(vbar, "vbar_signature_compare", lambda a, b: a is not None and a == b)
    monkeypatch.setattr(vbar, "vbar_unpin", lambda allocation: None)
    copy = comfy.model_management.cast_to_gathered

    def counted(tensors, *args, **kwargs):
        staged[0] += isinstance(tensors[0], QuantizedTensor)
        return copy(tensors, *args, **kwargs)

    monkeypatch.setattr(comfy.model_management, "cast_to_gathered", counted)
    return staged


@pytest.fixture
def plain(wan_file, ksample, make_lora, add_lora):
    """Latents without dynamic VRAM, of the model and with a LoRA; requested before `dynamic_vram`."""
    model = load_diffusion_model(wan_file[0])
    return ksample(model), ksample(add_lora(model, make_lora()))


def test_sampling_under_dynamic_vram_gives_the_same(plain, dynamic_vram, wan_file, ksample):
    model = load_diffusion_model(wan_file[0])
    assert type(model) is PackedModelPatcherDynamic
    assert (ksample(model) - plain[0]).abs().max() < TOLERANCE
    staged = dynamic_vram[0]
    assert staged > 20
    assert torch.equal(ksample(model), ksample(model))
    # staged once, or at every forward: twice per step, since guidance is evaluated apart
    assert dynamic_vram[0] == (staged if staged < 30 else 3 * staged)


def test_nothing_of_the_model_is_dense_but_what_is_small(dynamic_vram, wan_file, ksample):
    model = load_diffusion_model(wan_file[0])
    ksample(model)
    for name, layer in model.model.named_modules():
        if isinstance(layer, PackedWeightMixin) and layer.packed is not None:
            small = layer.packed.nbytes + (0 if layer.bias is None else layer.bias.nbytes) <= 16 << 10
            assert isinstance(layer.weight, QuantizedTensor) != small, name
            if not small:
                assert layer.weight._qdata.data_ptr() == layer.packed.data.data_ptr(), name
    comfy.model_management.unload_all_models()
    for layer in model.model.modules():
        if isinstance(layer, PackedWeightMixin) and layer.packed is not None:
            assert layer.weight._qdata.data_ptr() == layer.packed.data.data_ptr()


def test_mode_int8_leaves_no_scales_on_the_device(dynamic_vram, wan_file, ksample, monkeypatch):
    monkeypatch.setattr(ops_linear, "MIN_TOKENS", 1)  # the tiny latent has fewer tokens than int8 is worth
    model = load_diffusion_model(wan_file[0], "fp32", "int8")
    expected = ksample(model)
    layers = [layer for layer in model.model.modules() if getattr(layer, "row_scale", None) is not None]
    assert layers and all(layer.row_scale.device == DEVICE for layer in layers)
    comfy.model_management.unload_all_models()
    assert all(layer.row_scale.device == CPU for layer in layers)
    assert torch.equal(ksample(model), expected)


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


def test_the_text_encoder_under_dynamic_vram_is_exact(plain_prompt, dynamic_vram, umt5_file):
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
    moved = PackedModelPatcherDynamic(model.model, CPU, CPU)
    assert type(moved) is PackedModelPatcher

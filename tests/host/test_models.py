"""A GGUF model in the host's WanModel against the same decoded weights loaded dense by the stock loader."""

import contextlib
import itertools

import comfy.model_management
import comfy.ops
import comfy.sd
import numpy as np
import pytest
import safetensors.torch
import torch
from comfy.quant_ops import QuantizedTensor
from gguf import GGMLQuantizationType as Type

from wan_gguf.host import models
from wan_gguf.host.models import load_diffusion_model
from wan_gguf.host.operations import PackedWeightMixin
from wan_gguf.loaders.identify import WrongModelError
from wan_gguf.loaders.wan import WanCheckpoint, load_wan
from wan_gguf.ops import linear as ops_linear

# Both sides multiply by the same float32 weights; a backend may add 512 products in another order. One matmul then
# differs by about sqrt(512) * 2^-24 = 1.4e-6 of its size; twenty in a row, guidance 3 and two steps give up to 1e-4.
TOLERANCE = 1e-4
KERNELS = ["cpu.linear"]  # for every type of the tiny file, with the dtype float32


def packed_layers(model):
    return {
        name: module
        for name, module in model.model.named_modules()
        if isinstance(module, PackedWeightMixin) and module.packed is not None
    }


@pytest.mark.parametrize("sampler", ["euler", "uni_pc"])
def test_stock_ksampler_gives_the_stock_models_latent(wan_file, stock_wan, ksample, sampler):
    theirs = ksample(stock_wan, sampler=sampler)
    ours = ksample(load_diffusion_model(wan_file[0]), sampler=sampler)
    assert theirs.abs().mean() > 0.5
    assert (ours - theirs).abs().max() < TOLERANCE


def test_every_matmul_weight_stays_packed_and_every_other_parameter_is_dense(wan_file):
    model = load_diffusion_model(wan_file[0]).model.diffusion_model
    kinds = {name: type(param) is QuantizedTensor for name, param in model.named_parameters()}
    expected = {name: name.endswith("weight") and value.ndim == 2 for name, value in wan_file[1].items()}
    assert kinds == expected
    assert sum(kinds.values()) == 26
    assert model.head.modulation.shape == (1, 2, 256)
    assert torch.equal(model.blocks[1].modulation, wan_file[1]["blocks.1.modulation"])


def test_the_decoded_weights_are_those_of_gguf_py(wan_file):
    for name, module in packed_layers(load_diffusion_model(wan_file[0], "fp32")).items():
        expected = wan_file[1][f"{name.removeprefix('diffusion_model.')}.weight"]
        assert torch.equal(module.weight.dequantize(), expected), name


def file_addresses(path):
    """Address ranges at which this process maps the file."""
    with open("/proc/self/maps", encoding="utf-8") as maps:
        lines = [line.split() for line in maps if line.rstrip().endswith(str(path))]
    return [tuple(int(bound, 16) for bound in line[0].split("-")) for line in lines]


def assert_in_file(model, path):
    ranges = file_addresses(path)
    for name, module in packed_layers(model).items():
        start = module.weight._qdata.data_ptr()
        stop = start + module.weight._qdata.numel()
        assert any(low <= start and stop <= high for low, high in ranges), name


def test_packed_weights_stay_in_the_mapped_file_through_load_sample_unload_and_reload(
    wan_file, ksample, make_lora, add_lora
):
    pytest.importorskip("resource", reason="/proc/self/maps is needed")
    path = wan_file[0]
    model = load_diffusion_model(path)
    assert_in_file(model, path)
    first = ksample(add_lora(model, make_lora()))
    assert_in_file(model, path)
    comfy.model_management.unload_all_models()
    assert_in_file(model, path)
    again = ksample(add_lora(model, make_lora()))
    assert_in_file(model, path)
    assert torch.equal(first, again)


def test_a_second_model_does_not_change_the_first(make_wan, wan_file, ksample, make_lora, add_lora):
    model = load_diffusion_model(wan_file[0])
    before = ksample(model)
    other = load_diffusion_model(make_wan(seed=1)[0], "bf16")
    changed = ksample(add_lora(other, make_lora()))
    assert not torch.equal(changed, before)
    assert torch.equal(ksample(model), before)


@pytest.mark.parametrize(
    ("dtype", "expected", "worst"),
    [("bf16", torch.bfloat16, 0.1), ("fp16", torch.float16, 0.02), ("fp32", torch.float32, 0)],
)
def test_the_model_computes_in_the_dtype_asked_for(wan_file, ksample, dtype, expected, worst):
    exact = ksample(load_diffusion_model(wan_file[0]))
    model = load_diffusion_model(wan_file[0], dtype)
    seen = []
    handle = model.model.diffusion_model.blocks[1].ffn[2].register_forward_hook(lambda m, x, y: seen.append(y.dtype))
    mean_difference = (ksample(model) - exact).abs().mean()
    handle.remove()
    assert set(seen) == {expected}
    assert (mean_difference == 0) if worst == 0 else (0 < mean_difference < worst)
    assert model.attachments["wan_gguf"]["dtype"] == str(expected).removeprefix("torch.")


def test_auto_takes_and_records_the_hosts_choice(wan_file):
    model = load_diffusion_model(wan_file[0], "auto")
    assert model.model.manual_cast_dtype is None
    assert model.attachments["wan_gguf"] == {
        "model": "tiny_0.gguf",
        "dtype": "float32",
        "mode": "exact",
        "kernels": KERNELS,
        "device": "cpu",
    }


def test_auto_takes_bf16_on_a_cpu_that_multiplies_it_natively(wan_file, monkeypatch):
    monkeypatch.setattr(models, "has_native_bf16", lambda: True)
    assert load_diffusion_model(wan_file[0], "auto").attachments["wan_gguf"]["dtype"] == "bfloat16"
    assert load_diffusion_model(wan_file[0], "fp32").attachments["wan_gguf"]["dtype"] == "float32"


def test_mode_int8_is_close_and_recorded(wan_file, ksample, monkeypatch):
    """8-bit weights and activations in every layer of two blocks; what mode exact gives differs by rounding only."""
    exact = ksample(load_diffusion_model(wan_file[0]))
    monkeypatch.setattr(ops_linear, "MIN_TOKENS", 1)  # the tiny latent has fewer tokens than int8 is worth
    model = load_diffusion_model(wan_file[0], "fp32", "int8")
    sampled = ksample(model)
    assert 0 < (sampled - exact).abs().mean() < 0.1
    assert model.attachments["wan_gguf"]["mode"] == "int8"
    layers = [layer for layer in model.model.diffusion_model.modules() if getattr(layer, "row_scale", None) is not None]
    assert layers
    kept = [layer.row_scale for layer in layers]
    assert torch.equal(ksample(model), sampled)
    assert all(layer.row_scale is scale for layer, scale in zip(layers, kept, strict=True))


def test_modes_of_two_models_do_not_mix(wan_file, ksample):
    exact = ksample(load_diffusion_model(wan_file[0]))
    load_diffusion_model(wan_file[0], "auto", "int8")
    assert torch.equal(ksample(load_diffusion_model(wan_file[0])), exact)


def test_an_unknown_mode_is_refused(wan_file):
    with pytest.raises(ValueError, match="mode: got 'fast'; exact or int8 is allowed"):
        load_diffusion_model(wan_file[0], "auto", "fast")


def test_an_unknown_dtype_is_refused(wan_file):
    with pytest.raises(ValueError, match="dtype: got 'int8'; auto, bf16, fp16, fp32 are allowed"):
        load_diffusion_model(wan_file[0], "int8")


@pytest.mark.parametrize(
    ("config", "host_class", "channels"),
    [
        ({}, "WAN21", 16),
        ({"in_dim": 36}, "WAN21", 16),  # Wan2.2 I2V-A14B
        ({"in_dim": 48, "out_dim": 48}, "WAN22", 48),  # TI2V-5B
        ({"in_dim": 36, "model_type": "i2v"}, "WAN21", 16),  # Wan 2.1 I2V
    ],
)
def test_the_host_class_follows_the_shapes(make_wan, config, host_class, channels):
    model = load_diffusion_model(make_wan(seed=2, types={}, num_layers=1, **config)[0]).model
    assert type(model).__name__ == host_class
    assert model.latent_format.latent_channels == channels
    assert model.image_to_video == (config.get("model_type") == "i2v" or channels == 48)


def with_tensors(path, change):
    checkpoint = load_wan(path)
    tensors = dict(checkpoint.tensors)
    change(tensors)
    return WanCheckpoint(checkpoint.path, checkpoint.config, tensors)


def test_missing_and_unexpected_tensors_are_named(wan_file, monkeypatch):
    def change(tensors):
        tensors["blocks.0.self_attn.extra.weight"] = tensors.pop("blocks.0.self_attn.q.weight")

    monkeypatch.setattr(models, "load_wan", lambda path: with_tensors(path, change))
    message = (
        r"tiny_0.gguf: .*1 tensors are missing: blocks.0.self_attn.q.weight; "
        r"1 tensors are unexpected: blocks.0.self_attn.extra.weight.*download"
    )
    with pytest.raises(ValueError, match=message):
        load_diffusion_model(wan_file[0])


def test_a_wrong_shape_is_named(wan_file, monkeypatch):
    def change(tensors):
        tensors["blocks.0.ffn.0.weight"] = tensors["blocks.0.ffn.2.weight"]

    monkeypatch.setattr(models, "load_wan", lambda path: with_tensors(path, change))
    with pytest.raises(ValueError, match=r"blocks.0.ffn.0.weight is \(256, 512\), not \(512, 256\)"):
        load_diffusion_model(wan_file[0])


def test_a_model_the_host_does_not_know_is_refused(wan_file, monkeypatch):
    checkpoint = load_wan(wan_file[0])
    strange = WanCheckpoint(checkpoint.path, {**checkpoint.config, "model_type": "t3v"}, checkpoint.tensors)
    monkeypatch.setattr(models, "load_wan", lambda path: strange)
    with pytest.raises(WrongModelError, match="no Wan model with model_type t3v"):
        load_diffusion_model(wan_file[0])


def test_a_text_encoder_in_the_model_slot_is_refused(umt5_file):
    with pytest.raises(WrongModelError, match="UMT5"):
        load_diffusion_model(umt5_file[0])


def test_clones_and_fresh_copies(wan_file, ksample):
    model = load_diffusion_model(wan_file[0])
    assert type(model.clone()) is type(model)
    assert model.clone().model is model.model
    fresh = model.deepclone_multigpu()
    assert fresh.model is not model.model
    assert torch.equal(ksample(fresh), ksample(model))


def test_low_vram_is_exact(wan_file, ksample, make_lora, add_lora):
    model = add_lora(load_diffusion_model(wan_file[0]), make_lora())
    expected = ksample(model)
    comfy.model_management.unload_all_models()
    model.load(torch.device("cpu"), lowvram_model_memory=1)  # one byte: every layer is cast when it runs
    assert model.model.model_lowvram
    assert torch.equal(ksample(model), expected)


class Stream(contextlib.nullcontext):
    """An offload stream that does everything at once."""

    def wait_stream(self, other):
        pass


def test_low_vram_through_the_hosts_cast_buffers_is_exact(wan_file, ksample, make_lora, add_lora, monkeypatch):
    """As on a GPU: bytes are copied into one buffer per stream and read from there."""
    model = add_lora(load_diffusion_model(wan_file[0]), make_lora())
    expected = ksample(model)
    device, cast, copied = torch.device("cpu", 0), comfy.ops.cast_bias_weight, []

    def cast_to_the_device(s, input=None, dtype=None, device_=None, **kwargs):
        kwargs.pop("device", None)
        result = cast(s, input, dtype, device, **kwargs)
        copied.append(result[0].data_ptr() != s.weight.data_ptr())
        return result

    monkeypatch.setattr(comfy.ops, "cast_bias_weight", cast_to_the_device)
    streams = itertools.cycle([Stream(), Stream()])
    monkeypatch.setattr(comfy.model_management, "get_offload_stream", lambda device: next(streams))
    monkeypatch.setattr(comfy.model_management, "STREAM_CAST_BUFFERS", {})
    monkeypatch.setattr(comfy.model_management, "LARGEST_CASTED_WEIGHT", (None, 0))
    assert torch.equal(ksample(model), expected)
    assert all(copied)


def test_a_layer_moved_away_and_back_is_the_file_again(wan_file):
    layer = load_diffusion_model(wan_file[0]).model.diffusion_model.blocks[0].ffn[0]
    layer.bias = None  # nothing else comes back from "meta"
    address = layer.packed.data.data_ptr()
    layer.to("meta")
    assert layer.weight.device.type == "meta"
    layer.to("cpu")
    assert layer.weight._qdata.data_ptr() == address
    layer.to(torch.float16)
    assert (layer.weight.dtype, layer.weight._qdata.data_ptr()) == (torch.float16, address)


def test_the_size_the_host_sees_is_the_packed_size(wan_file):
    model = load_diffusion_model(wan_file[0])
    packed_bytes = sum(module.packed.nbytes for module in packed_layers(model).values())
    dense_bytes = sum(4 * param.numel() for param in model.model.parameters() if type(param) is not QuantizedTensor)
    buffers = sum(buffer.nbytes for buffer in model.model.buffers())
    assert model.model_size() == packed_bytes + dense_bytes + buffers


def test_the_stock_model_save_writes_the_model_with_its_lora_dense(
    wan_file, ksample, make_lora, add_lora, load_stock, tmp_path
):
    """Without our own state dict for saving, safetensors' writer crashed the process."""
    model = add_lora(load_diffusion_model(wan_file[0]), make_lora())
    expected = ksample(model)
    comfy.sd.save_checkpoint(str(tmp_path / "saved.safetensors"), model)  # what the stock ModelSave node does
    saved = safetensors.torch.load_file(tmp_path / "saved.safetensors")
    dense = {name.removeprefix("model.diffusion_model."): value for name, value in saved.items()}
    assert dense.keys() == wan_file[1].keys()
    assert torch.equal(dense["blocks.0.ffn.0.weight"], wan_file[1]["blocks.0.ffn.0.weight"])  # not in the LoRA
    assert (ksample(load_stock(dense)) - expected).abs().max() < TOLERANCE


def test_a_packed_weights_own_state_dict_is_dense(wan_file):
    weight = load_diffusion_model(wan_file[0]).model.diffusion_model.blocks[0].self_attn.q.weight
    saved = weight.state_dict("q")
    assert list(saved) == ["q"]
    assert torch.equal(saved["q"], wan_file[1]["blocks.0.self_attn.q.weight"])


def test_f_linear_on_a_packed_weight_reaches_our_kernel(wan_file):
    layer = load_diffusion_model(wan_file[0]).model.diffusion_model.blocks[0].self_attn.o
    x = torch.randn(3, 256, generator=torch.Generator().manual_seed(0))
    assert torch.equal(torch.nn.functional.linear(x, layer.weight, layer.bias), layer(x))


def test_k_quants_need_no_special_width(make_wan, ksample):
    """A width of 384 is no multiple of 256 elements: such rows are stored in 32-element types."""
    types = {"self_attn": Type.Q8_0, "ffn": Type.Q4_0}
    model = load_diffusion_model(make_wan(seed=3, types=types, dim=384, num_heads=3, num_layers=1)[0])
    assert model.model.diffusion_model.num_heads == 3
    assert np.isfinite(ksample(model).numpy()).all()


def test_torch_compile_gives_the_same_latent(make_wan, ksample):
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    model = load_diffusion_model(make_wan(seed=4, num_layers=1)[0])
    compiled = model.clone()
    set_torch_compile_wrapper(compiled, backend="eager")
    assert torch.equal(ksample(compiled, steps=1), ksample(model, steps=1))

"""What is done with one model changes no other: neither its numbers nor its settings."""

import copy

import pytest
import torch

from wan_gguf.host.models import ATTACHMENT, load_diffusion_model


def state(model):
    """All that a MODEL carries, to compare later."""
    layers = {name: type(module) for name, module in model.model.named_modules()}
    options = copy.deepcopy(model.model_options)
    patches = [dict(model.patches), dict(model.weight_wrapper_patches), dict(model.object_patches)]
    dtypes = (model.model.get_dtype(), model.model.manual_cast_dtype)
    return {**model.attachments}, layers, options, patches, dtypes, model.load_device, model.offload_device


def packed_bytes(model):
    layers = (module for module in model.model.modules() if getattr(module, "packed", None) is not None)
    return torch.cat([layer.packed.data for layer in layers])


@pytest.fixture
def second(make_wan, wan_file):
    """second(kind) -> another model."""
    files = {"another file": lambda: make_wan(seed=1)[0], "the same file": lambda: wan_file[0]}
    return lambda kind, *settings: load_diffusion_model(files[kind](), *settings)


@pytest.mark.parametrize("kind", ["another file", "the same file"])
@pytest.mark.parametrize("settings", [("bf16", "int8"), ("fp16", "exact")])
def test_a_second_model_in_other_settings_changes_nothing_of_the_first(
    wan_file, second, ksample, make_lora, add_lora, monkeypatch, kind, settings
):
    monkeypatch.setattr("wan_gguf.ops.linear.MIN_TOKENS", 1)  # the tiny latent has fewer tokens than int8 is worth
    first = load_diffusion_model(wan_file[0], "fp32")
    expected, before, raw = ksample(first), state(first), packed_bytes(first)
    other = second(kind, *settings)
    others = ksample(add_lora(other, make_lora(seed=3)))
    assert not torch.equal(others, expected)
    assert torch.equal(ksample(first), expected)
    assert state(first) == before
    assert torch.equal(packed_bytes(first), raw)
    assert (other.attachments[ATTACHMENT]["mode"], first.attachments[ATTACHMENT]["mode"]) == (settings[1], "exact")
    assert torch.equal(ksample(add_lora(other, make_lora(seed=3))), others)


def test_a_lora_on_a_clone_changes_neither_the_base_nor_another_clone(wan_file, ksample, make_lora, add_lora):
    base = load_diffusion_model(wan_file[0], "fp32")
    sibling = add_lora(base, make_lora(seed=1))
    expected, siblings, before = ksample(base), ksample(sibling), state(base)
    siblings_before = state(sibling)
    clone = add_lora(sibling, make_lora(seed=2))
    clone.model_options["transformer_options"]["of the clone"] = True
    assert not torch.equal(ksample(clone), siblings)
    assert state(base) == before
    assert state(sibling) == siblings_before
    assert torch.equal(ksample(base), expected)
    assert torch.equal(ksample(sibling), siblings)


def test_a_model_that_is_gone_leaves_the_file_to_the_one_that_remains(wan_file, ksample):
    first = load_diffusion_model(wan_file[0], "fp32")
    expected = ksample(first)
    other = load_diffusion_model(wan_file[0], "fp32")
    assert torch.equal(ksample(other), expected)
    del first
    assert torch.equal(ksample(other), expected)

"""LoRA and other patches through the stock loader code, on packed weights."""

import comfy.hooks
import comfy.lora
import pytest
import torch
from comfy.quant_ops import QuantizedTensor

from wan_gguf.host.models import load_diffusion_model
from wan_gguf.host.patcher import packed_module
from wan_gguf.host.patches import PackedPatch
from wan_gguf.host.side_path import is_low_rank

# As in test_models.py; (x A) B and x (A B) round differently as well, by about sqrt(256) * 2^-24 of the LoRA's part.
TOLERANCE = 1e-4


@pytest.fixture
def model(wan_file):
    return load_diffusion_model(wan_file[0])


@pytest.mark.parametrize("strength", [1.0, -0.5])
def test_lora_matches_the_stock_model_and_its_removal_is_exact(
    model, stock_wan, ksample, make_lora, add_lora, strength
):
    before = ksample(model)
    theirs = ksample(add_lora(stock_wan, make_lora(), strength))
    ours = ksample(add_lora(model, make_lora(), strength))
    assert (theirs - before).abs().max() > 0.05
    assert (ours - theirs).abs().max() < TOLERANCE
    assert torch.equal(ksample(model), before)


def test_low_rank_weights_stay_packed(model, ksample, make_lora, add_lora):
    patched = add_lora(model, make_lora())
    ksample(patched)
    layer = patched.model.diffusion_model.blocks[0].self_attn.q
    assert type(layer.weight) is QuantizedTensor
    assert [type(function) for function in layer.weight_function] == [PackedPatch]
    assert not patched.patches


def test_two_loras_stack_and_each_can_go(model, stock_wan, ksample, make_lora, add_lora):
    first = add_lora(model, make_lora(seed=1))
    only_first = ksample(first)
    both = add_lora(first, make_lora(seed=2, layers=("blocks.0.self_attn.q", "blocks.1.ffn.2")), 0.7)
    theirs = add_lora(
        add_lora(stock_wan, make_lora(seed=1)),
        make_lora(seed=2, layers=("blocks.0.self_attn.q", "blocks.1.ffn.2")),
        0.7,
    )
    assert (ksample(both) - ksample(theirs)).abs().max() < TOLERANCE
    assert torch.equal(ksample(first), only_first)


def full_deltas(dense):
    """What Lightning files add to low-rank pairs: deltas of matrices, biases, norms and bare parameters."""
    generator = torch.Generator().manual_seed(4)

    def delta(name):
        return torch.randn(dense[name].shape, generator=generator) * 0.02

    return {
        "diffusion_model.blocks.0.self_attn.q.diff": delta("blocks.0.self_attn.q.weight"),
        "diffusion_model.blocks.0.self_attn.q.diff_b": delta("blocks.0.self_attn.q.bias"),
        "diffusion_model.blocks.1.norm3.diff": delta("blocks.1.norm3.weight"),
        "diffusion_model.patch_embedding.diff": delta("patch_embedding.weight"),
        "diffusion_model.blocks.0.modulation.diff": delta("blocks.0.modulation"),
    }


def test_full_deltas_match_the_stock_model(wan_file, model, stock_wan, ksample, make_lora, add_lora):
    before = ksample(model)
    lora = {**make_lora(layers=("blocks.0.self_attn.q",)), **full_deltas(wan_file[1])}
    del lora["diffusion_model.blocks.0.self_attn.q.diff"]  # the host keeps one patch per weight and file
    stacked = {
        "diffusion_model.blocks.0.self_attn.q.diff": full_deltas(wan_file[1])[
            "diffusion_model.blocks.0.self_attn.q.diff"
        ]
    }
    ours, theirs = (ksample(add_lora(add_lora(loaded, lora), stacked)) for loaded in (model, stock_wan))
    assert (theirs - before).abs().max() > 0.05
    assert (ours - theirs).abs().max() < TOLERANCE
    assert torch.equal(ksample(model), before)


def test_a_patch_that_is_not_low_rank_uses_the_dense_weight(wan_file, model, stock_wan, ksample, add_lora):
    generator = torch.Generator().manual_seed(6)
    lokr = {
        "diffusion_model.blocks.1.ffn.0.lokr_w1": torch.randn(16, 16, generator=generator) * 0.1,
        "diffusion_model.blocks.1.ffn.0.lokr_w2": torch.randn(32, 16, generator=generator) * 0.1,
    }
    ours, theirs = ksample(add_lora(model, lokr)), ksample(add_lora(stock_wan, lokr))
    assert (ours - theirs).abs().max() < TOLERANCE
    assert not torch.equal(ours, ksample(model))


def test_a_lora_of_another_model_changes_nothing(model, ksample, add_lora):
    wrong = {
        "diffusion_model.blocks.0.self_attn.q.lora_up.weight": torch.ones(128, 4),
        "diffusion_model.blocks.0.self_attn.q.lora_down.weight": torch.ones(4, 128),
        "diffusion_model.blocks.99.self_attn.q.lora_up.weight": torch.ones(256, 4),
        "diffusion_model.blocks.99.self_attn.q.lora_down.weight": torch.ones(4, 256),
    }
    # the layer it names is computed dense, which sums in another order
    assert (ksample(add_lora(model, wrong)) - ksample(model)).abs().max() < TOLERANCE


def test_add_patches_reports_the_keys_that_fit(model, make_lora):
    keys = comfy.lora.model_lora_keys_unet(model.model, {})
    loaded = comfy.lora.load_lora(make_lora(), keys)
    assert set(
        model.clone().add_patches({**loaded, "diffusion_model.nothing.weight": ("diff", (torch.ones(1),))})
    ) == set(loaded)


def test_patches_for_a_part_of_a_weight_or_with_a_function_use_the_dense_weight(model, make_lora):
    keys = comfy.lora.model_lora_keys_unet(model.model, {})
    key = "diffusion_model.blocks.0.self_attn.q.weight"
    value = comfy.lora.load_lora(make_lora(), keys)[key]
    shape = (256, 256)
    assert PackedPatch(key, (1.0, value, 1.0, None, None), shape).low_rank is not None
    for patch in ((1.0, value, 0.5, None, None), (1.0, value, 1.0, (0, 0, 8), None), (1.0, value, 1.0, None, abs)):
        assert PackedPatch(key, patch, shape).low_rank is None
        assert not is_low_rank([PackedPatch(key, patch, shape)])
    clone = model.clone()
    clone.add_patches({(key, (0, 0, 256), abs): value})
    assert clone.weight_wrapper_patches[key][0].patch[3:] == ((0, 0, 256), abs)


def test_merge_nodes_see_packed_weights_with_their_patches(model, make_lora, add_lora):
    patched = add_lora(model, make_lora())
    key = "diffusion_model.blocks.0.self_attn.q.weight"
    (weight, convert), patch = patched.get_key_patches("diffusion_model.")[key]
    assert convert(weight).shape == (256, 256)
    assert patch[0] == 1.0
    assert len(model.get_key_patches()[key]) == 1


def test_merging_matches_the_stock_models_merge(make_wan, model, stock_wan, load_stock, ksample):
    path, dense = make_wan(seed=1)

    def merge(first, second):  # what the stock ModelMergeSimple node does
        merged = first.clone()
        merged.add_patches(second.get_key_patches("diffusion_model."), 0.75, 0.25)
        return ksample(merged)

    before = ksample(model)
    ours, theirs = merge(model, load_diffusion_model(path)), merge(stock_wan, load_stock(dense))
    assert (theirs - before).abs().max() > 0.05
    assert (ours - theirs).abs().max() < TOLERANCE
    assert torch.equal(ksample(model), before)


def test_lora_hooks_on_conditioning_match_the_stock_model(model, stock_wan, ksample, conditioning, make_lora):
    def run(loaded, file):
        hooks = comfy.hooks.create_hook_lora(file, 1.0, 0)
        positive = comfy.hooks.set_hooks_for_conditioning(conditioning(1), hooks)
        return ksample(loaded, positive=positive)

    before = ksample(model)
    ours, theirs = run(model, make_lora()), run(stock_wan, make_lora())
    assert (theirs - before).abs().max() > 0.05
    assert (ours - theirs).abs().max() < TOLERANCE
    assert torch.equal(ksample(model), before)


def test_loras_leave_the_device_with_the_model(model, ksample, make_lora, add_lora, monkeypatch):
    moves = []
    monkeypatch.setattr(PackedPatch, "move_to", lambda patch, device: moves.append((patch.key, str(device))) or 0)
    patched = add_lora(model, make_lora())
    ksample(patched)
    arrived, layers = len(moves), {key for key, _ in moves}
    assert len(layers) == 8
    patched.detach()
    assert {key for key, _ in moves[arrived:]} == layers


def test_packed_module_finds_packed_weights_only(model):
    assert packed_module(model.model, "diffusion_model.blocks.0.self_attn.q.weight") is not None
    for key in ("diffusion_model.blocks.0.self_attn.q.bias", "diffusion_model.blocks.0.norm3.weight", "nothing.weight"):
        assert packed_module(model.model, key) is None

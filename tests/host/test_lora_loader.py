"""The LoRA loader: every spelling of the same LoRA does the same, coverage is told, what does not fit is refused."""

import pytest
import torch
from safetensors.torch import save_file

from wan_gguf.host.lora import load_lora
from wan_gguf.host.models import load_diffusion_model
from wan_gguf.loaders.identify import WrongModelError
from wan_gguf.loaders.safetensors_file import SafetensorsError

TOLERANCE = 1e-4  # as in test_lora.py
RANK = 64
LAYERS = {  # official name -> diffusers'
    "blocks.0.self_attn.q": "blocks.0.attn1.to_q",
    "blocks.0.cross_attn.k": "blocks.0.attn2.to_k",
    "blocks.1.self_attn.o": "blocks.1.attn1.to_out.0",
    "blocks.1.ffn.0": "blocks.1.ffn.net.0.proj",
    "blocks.1.ffn.2": "blocks.1.ffn.net.2",
}
KOHYA, PEFT, NAMED, OLD = (
    (".lora_up.weight", ".lora_down.weight"), (".lora_B.weight", ".lora_A.weight"),
    (".lora_B.default.weight", ".lora_A.default.weight"), ("_lora.up.weight", "_lora.down.weight"),
)  # fmt: skip


def dots(prefix):
    return lambda layer: prefix + layer


def underscores(prefix):
    return lambda layer: prefix + layer.replace(".", "_")


def diffusers(name):
    return lambda layer: name(LAYERS[layer])


VARIANTS = {  # name -> (module as spelled, (up, down), alpha, whether the host's own loader knows the spelling)
    "lightx2v, int64 alpha": (dots("diffusion_model."), KOHYA, torch.tensor(8), True),
    "Kijai, no alpha": (dots("diffusion_model."), KOHYA, None, True),
    "float alpha of one element": (dots("diffusion_model."), KOHYA, torch.tensor([8.0]), True),
    "PEFT": (dots("diffusion_model."), PEFT, None, True),
    "musubi": (underscores("lora_unet_"), KOHYA, torch.tensor(8.0, dtype=torch.bfloat16), True),
    "Wan-Fun": (underscores("lora_unet__"), KOHYA, torch.tensor(8.0), True),
    "model prefix": (dots("model.diffusion_model."), KOHYA, torch.tensor(8), False),
    "diffusers": (diffusers(dots("transformer.")), PEFT, None, False),
    "old diffusers": (diffusers(dots("transformer.")), OLD, None, False),
    "diffusers by kohya's script": (diffusers(underscores("lora_unet_")), KOHYA, torch.tensor(8), False),
    "OneTrainer": (diffusers(underscores("lora_transformer_")), KOHYA, torch.tensor(8), False),
    "PEFT, whole": (dots("base_model.model."), NAMED, None, False),
    "DiffSynth": (dots(""), NAMED, None, False),
    "DiffSynth pipeline": (dots("pipe.dit."), NAMED, None, False),
}


@pytest.fixture(scope="module")
def pairs(wan_file):
    """Layer -> (up (n, 64), down (64, k))."""
    generator = torch.Generator().manual_seed(0)
    shapes = {layer: wan_file[1][f"{layer}.weight"].shape for layer in LAYERS}
    return {
        layer: (torch.randn(n, RANK, generator=generator) * 0.1, torch.randn(RANK, k, generator=generator) * 0.1)
        for layer, (n, k) in shapes.items()
    }


@pytest.fixture(scope="module")
def shared_model(wan_file):
    with torch.inference_mode():
        return load_diffusion_model(wan_file[0])


@pytest.fixture
def saved(tmp_path):
    """saved(tensors) -> the path of a safetensors file of them."""

    def save(tensors, name="speed.safetensors"):
        save_file({key: value.clone() for key, value in tensors.items()}, tmp_path / name)
        return tmp_path / name

    return save


def spelled(pairs, name):
    module, ends, alpha, _ = VARIANTS[name]
    lora = {}
    for layer, pair in pairs.items():
        lora |= {module(layer) + end: tensor.clone() for end, tensor in zip(ends, pair, strict=True)}
        if alpha is not None:
            lora[f"{module(layer)}.alpha"] = alpha
    return lora


def deltas(patched) -> dict:
    """Layer -> what its patches add to the weight."""
    found = {}
    for key, functions in patched.weight_wrapper_patches.items():
        weight = torch.zeros(functions[0].shape)
        for function in functions:
            weight = function(weight)
        found[key.removeprefix("diffusion_model.").removesuffix(".weight")] = weight
    return found


@pytest.mark.parametrize("name", VARIANTS)
def test_every_spelling_does_the_same(shared_model, pairs, saved, name):
    patched, report = load_lora(shared_model, saved(spelled(pairs, name)), 2.0)
    alpha = VARIANTS[name][2]
    scale = 1.0 if alpha is None else 0.125
    assert report == f"speed.safetensors: 5 of 5 modules, 5 of rank 64 at alpha/rank {scale:g}"
    found = deltas(patched)
    assert found.keys() == pairs.keys()
    for layer, (up, down) in pairs.items():
        assert torch.equal(found[layer], 2.0 * scale * (up @ down)), layer
    for functions in patched.weight_wrapper_patches.values():
        assert [function.low_rank.scale for function in functions] == [2.0 * scale]


@pytest.mark.parametrize("name", VARIANTS)
def test_which_spellings_the_hosts_own_loader_knows(shared_model, pairs, add_lora, name):
    """When the host learns a spelling, this tells us."""
    patched = add_lora(shared_model, spelled(pairs, name))
    assert len(patched.weight_wrapper_patches) == (len(pairs) if VARIANTS[name][3] else 0)


def test_the_sampled_latent_is_that_of_the_stock_model(wan_file, stock_wan, ksample, add_lora, pairs, saved):
    model = load_diffusion_model(wan_file[0])
    before = ksample(model)
    theirs = ksample(add_lora(stock_wan, spelled(pairs, "lightx2v, int64 alpha"), 0.8))
    ours = ksample(load_lora(model, saved(spelled(pairs, "diffusers by kohya's script")), 0.8)[0])
    assert (theirs - before).abs().max() > 0.05
    assert (ours - theirs).abs().max() < TOLERANCE
    assert torch.equal(ksample(model), before)


def differences(dense, names):
    generator = torch.Generator().manual_seed(4)
    return {lora_name: torch.randn(dense[name].shape, generator=generator) * 0.02 for lora_name, name in names.items()}


def test_full_differences_beside_pairs_of_the_same_layers(wan_file, stock_wan, ksample, add_lora, pairs, saved):
    """The host keeps one patch per weight and file; a file may have two, and then the host's loader loses one."""
    names = {
        "diffusion_model.blocks.0.self_attn.q.diff": "blocks.0.self_attn.q.weight",
        "diffusion_model.blocks.0.self_attn.q.diff_b": "blocks.0.self_attn.q.bias",
        "diffusion_model.blocks.1.norm3.diff": "blocks.1.norm3.weight",
        "diffusion_model.blocks.1.norm3.diff_b": "blocks.1.norm3.bias",
        "diffusion_model.patch_embedding.diff": "patch_embedding.weight",
        "diffusion_model.blocks.0.modulation.diff": "blocks.0.modulation",
        "diffusion_model.head.modulation.diff": "head.modulation",
    }
    full = differences(wan_file[1], names)
    low = spelled(pairs, "lightx2v, int64 alpha")
    model = load_diffusion_model(wan_file[0])
    before = ksample(model)
    patched, report = load_lora(model, saved({**low, **full}), 1.0)
    assert report == ("speed.safetensors: 9 of 9 modules, 5 of rank 64 at alpha/rank 0.125, 7 full differences")
    theirs = ksample(add_lora(add_lora(stock_wan, low), full))
    assert (theirs - before).abs().max() > 0.05
    assert (ksample(patched) - theirs).abs().max() < TOLERANCE
    assert torch.equal(ksample(model), before)


def test_lokr_in_another_spelling(wan_file, shared_model, saved, add_lora):
    generator = torch.Generator().manual_seed(6)
    parts = {".lokr_w1": torch.randn(16, 16, generator=generator), ".lokr_w2": torch.randn(32, 16, generator=generator)}
    patched, report = load_lora(shared_model, saved({f"lycoris_blocks_1_ffn_0{k}": v for k, v in parts.items()}), 1.0)
    theirs = add_lora(shared_model, {f"diffusion_model.blocks.1.ffn.0{k}": v for k, v in parts.items()})
    assert report == "speed.safetensors: 1 of 1 modules"
    assert torch.equal(deltas(patched)["blocks.1.ffn.0"], deltas(theirs)["blocks.1.ffn.0"])


def test_loras_of_two_experts_do_not_meet(wan_file, make_wan, pairs, saved):
    high, low = load_diffusion_model(wan_file[0]), load_diffusion_model(make_wan(seed=1)[0])
    first, _ = load_lora(high, saved(spelled(pairs, "PEFT"), "high.safetensors"), 1.0)
    second, _ = load_lora(low, saved(spelled(pairs, "musubi"), "low.safetensors"), 0.5)
    assert [model.attachments["wan_gguf"]["loras"] for model in (first, second)] == [
        [{"file": "high.safetensors", "strength": 1.0}],
        [{"file": "low.safetensors", "strength": 0.5}],
    ]
    assert not high.weight_wrapper_patches and not low.weight_wrapper_patches
    assert "loras" not in high.attachments["wan_gguf"]
    q = "blocks.0.self_attn.q"
    assert torch.equal(deltas(second)[q] * 16, deltas(first)[q])  # powers of two: exact


def test_strength_zero_adds_nothing(shared_model, pairs, saved):
    patched, report = load_lora(shared_model, saved(spelled(pairs, "PEFT")), 0.0)
    assert "5 of 5 modules" in report
    assert not patched.weight_wrapper_patches and not patched.patches


def test_what_is_left_over_is_told(shared_model, pairs, saved, caplog):
    lora = spelled(pairs, "PEFT")
    lora["diffusion_model.blocks.0.cross_attn.k_img.lora_A.weight"] = torch.zeros(4, 256)
    lora["diffusion_model.blocks.0.cross_attn.k_img.lora_B.weight"] = torch.zeros(256, 4)
    lora["diffusion_model.blocks.0.self_attn.norm_q.diff_b"] = torch.zeros(256)
    lora["diffusion_model.blocks.0.self_attn.k.lora_A.weight"] = torch.zeros(4, 256)
    lora["notes"] = torch.zeros(1)
    _, report = load_lora(shared_model, saved(lora), 1.0)
    assert report.startswith("speed.safetensors: 5 of 7 modules, 5 of rank 64 at alpha/rank 1, 5 tensors unused: ")
    assert [record.levelname for record in caplog.records if "5 of 7 modules" in record.getMessage()] == ["WARNING"]


def test_a_patch_embedding_of_other_channels_is_left_out(shared_model, pairs, saved):
    lora = {**spelled(pairs, "PEFT"), "diffusion_model.patch_embedding.diff": torch.zeros(256, 36, 1, 2, 2)}
    patched, report = load_lora(shared_model, saved(lora), 1.0)
    assert "5 of 6 modules" in report
    assert "patch_embedding is (256, 36, 1, 2, 2), the model's (256, 16, 1, 2, 2)" in report
    assert not patched.patches


@pytest.mark.parametrize("kind", ["pair", "diff", "bias"])
def test_a_lora_of_another_size_is_refused(shared_model, wan_file, saved, kind):
    q = "diffusion_model.blocks.0.self_attn.q"
    lora = {
        "pair": {f"{q}.lora_up.weight": torch.zeros(5120, 4), f"{q}.lora_down.weight": torch.zeros(4, 5120)},
        "diff": {f"{q}.diff": torch.zeros(3072, 3072)},
        "bias": {f"{q}.diff_b": torch.zeros(1536)},
    }[kind]
    with pytest.raises(WrongModelError) as error:
        load_lora(shared_model, saved(lora), 1.0)
    words = {"pair": "Wan2.2 A14B", "diff": "Wan2.2 TI2V-5B", "bias": "Wan2.1 1.3B"}[kind]
    for part in ("speed.safetensors", "another size", "blocks.0.self_attn.q", words, wan_file[0].name, "256"):
        assert part in str(error.value)


def test_a_lora_of_another_family_is_refused(shared_model, wan_file, saved):
    lora = {
        f"lora_unet_double_blocks_{i}_img_attn_qkv.{part}.weight": torch.zeros(4, 4)
        for i in range(3)
        for part in ("lora_up", "lora_down")
    }
    with pytest.raises(WrongModelError) as error:
        load_lora(shared_model, saved(lora), 1.0)
    for part in ("speed.safetensors", "none of its 6 tensors", wan_file[0].name, "Flux", "lora_unet_double_blocks_"):
        assert part in str(error.value)


def test_a_model_is_no_lora(shared_model, wan_file, saved):
    path = saved({name: value for name, value in wan_file[1].items() if "blocks.0" in name or "head" in name})
    with pytest.raises(WrongModelError, match="is not a LoRA but a Wan transformer"):
        load_lora(shared_model, path, 1.0)


def test_a_pickle_is_never_opened(shared_model, tmp_path, pairs):
    lora = spelled(pairs, "PEFT")
    torch.save(lora, tmp_path / "speed.pt")
    torch.save(lora, tmp_path / "renamed.safetensors")
    with pytest.raises(SafetensorsError, match=r"only \.safetensors"):
        load_lora(shared_model, tmp_path / "speed.pt", 1.0)
    with pytest.raises(SafetensorsError, match="a pickle"):
        load_lora(shared_model, tmp_path / "renamed.safetensors", 1.0)


def test_the_same_layer_in_two_spellings_counts_once(shared_model, pairs, saved):
    lora = {**spelled(pairs, "PEFT"), **spelled(pairs, "musubi")}
    _, report = load_lora(shared_model, saved(lora), 1.0)
    assert report.startswith("speed.safetensors: 5 of 10 modules, ")

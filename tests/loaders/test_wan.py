"""load_wan: settings from shapes for every official model, lost and folded dimensions, prefixes, types, wrong files."""

import math

import numpy as np
import pytest
import torch

from wan_gguf.loaders.gguf import open_gguf
from wan_gguf.loaders.identify import WrongModelError
from wan_gguf.loaders.wan import load_wan
from wan_gguf.loaders.wan_config import wan_config, wan_shapes
from wan_gguf.ops.dequantize import dequantize
from wan_gguf.tests.loaders.build import array, gguf_bytes, scalar, text
from wan_gguf.tests.loaders.models import VAE_21, WAN_MODELS, umt5_tensors, wan_tensors

OFFICIAL_KEYS = {"general.architecture": text("wan"), "general.quantization_version": scalar("u32", 2)}


@pytest.fixture
def load(tmp_path):
    """A function that writes {name: (type, shape)} as `wan.gguf` and loads it."""

    def write_and_load(tensors, metadata=OFFICIAL_KEYS):
        path = tmp_path / "wan.gguf"
        path.write_bytes(gguf_bytes(tensors, metadata))
        return load_wan(path)

    return write_and_load


def shapes_of(tensors):
    return {name: shape for name, (_, shape) in tensors.items()}


@pytest.mark.parametrize("model", WAN_MODELS)
def test_settings_of_the_official_models(model):
    dim, ffn, channels, out, layers, image, n_tensors = WAN_MODELS[model]
    shapes = shapes_of(wan_tensors(dim, ffn, channels, out, layers, image, text_dim=4096))
    assert len(shapes) == n_tensors
    config = wan_config(shapes, model)
    assert config == {
        "model_type": "i2v" if image else "t2v", "patch_size": (1, 2, 2), "text_len": 512, "in_dim": channels,
        "dim": dim, "ffn_dim": ffn, "freq_dim": 256, "text_dim": 4096, "out_dim": out, "num_heads": dim // 128,
        "num_layers": layers, "window_size": (-1, -1), "qk_norm": True, "cross_attn_norm": True, "eps": 1e-6,
    }  # fmt: skip
    assert wan_shapes(config) == shapes


def test_the_reference_model_s_size(load):
    loaded = load(wan_tensors(dim=256, ffn=1024, layers=6, text_dim=256))
    config = loaded.config
    assert (config["num_heads"], config["num_layers"], config["text_dim"], config["ffn_dim"]) == (2, 6, 256, 1024)


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model.", "diffusion_model."])
def test_prefixes_are_stripped(load, prefix):
    tensors = wan_tensors()
    loaded = load({prefix + name: value for name, value in tensors.items()})
    assert {name: packed.shape for name, packed in loaded.tensors.items()} == shapes_of(tensors)


def test_values_come_from_the_right_tensor(load):
    """Zero copy, byte for byte what the file holds under that name."""
    loaded = load(wan_tensors())
    with open_gguf(loaded.path) as file:
        for name, packed in loaded.tensors.items():
            assert torch.equal(packed.data, file.packed(name).data), name


@pytest.mark.parametrize("plain", ["F32", "F16", "BF16", "Q8_0"])
def test_any_type_for_any_tensor(load, plain):
    """Norms, biases, modulation and embeddings occur in all of these, quantised in files of stable-diffusion.cpp."""
    tensors = wan_tensors(plain=plain, out=8)
    loaded = load(tensors)
    assert loaded.tensors["head.modulation"].format.name == plain
    assert {name: packed.shape for name, packed in loaded.tensors.items()} == shapes_of(tensors)


def test_the_dialect_of_stable_diffusion_cpp(load):
    """No metadata, leading dimensions of one lost, patch embedding folded, 1-D tensors quantised."""
    tensors = wan_tensors(plain="Q8_0", channels=36, out=16)
    logical = shapes_of(tensors)
    for name, (type_name, shape) in tensors.items():
        if name.endswith("modulation"):
            tensors[name] = (type_name, shape[1:])
    tensors["patch_embedding.weight"] = ("F32", (256 * 36, 1, 2, 2))
    loaded = load(tensors, {})
    assert {name: packed.shape for name, packed in loaded.tensors.items()} == logical
    assert loaded.config["in_dim"] == 36
    with open_gguf(loaded.path) as file:
        stored = dequantize(file.packed("patch_embedding.weight"))
    assert torch.equal(dequantize(loaded.tensors["patch_embedding.weight"]).flatten(), stored.flatten())


@pytest.mark.parametrize("stored", [(256, 16, 2, 2), (256, 64), (256 * 16, 1, 2, 2), (16384,)])
def test_patch_embedding_of_any_rank(load, stored):
    tensors = wan_tensors()
    tensors["patch_embedding.weight"] = ("F16", stored)
    assert load(tensors).tensors["patch_embedding.weight"].shape == (256, 16, 1, 2, 2)


def test_a_quantised_patch_embedding_is_decoded(load):
    """Its blocks straddle the rows of (256, 16, 1, 2, 2), so it becomes F32."""
    tensors = wan_tensors()
    tensors["patch_embedding.weight"] = ("Q8_0", (256, 64))
    loaded = load(tensors)
    patch = loaded.tensors["patch_embedding.weight"]
    assert (patch.format.name, patch.shape) == ("F32", (256, 16, 1, 2, 2))
    with open_gguf(loaded.path) as file:
        assert torch.equal(dequantize(patch).view(256, 64), dequantize(file.packed("patch_embedding.weight")))


def test_a_shape_recorded_by_the_converter_is_used(load):
    """comfy.gguf.orig_shape: here the head's matrix was stored flat."""
    tensors = wan_tensors()
    tensors["head.head.weight"] = ("F16", (64 * 256,))
    recorded = {"comfy.gguf.orig_shape.head.head.weight": array("i32", [64, 256])}
    assert load(tensors, recorded).tensors["head.head.weight"].shape == (64, 256)


def test_a_recorded_shape_of_another_size_is_ignored(load):
    recorded = {"comfy.gguf.orig_shape.head.head.weight": array("i32", [65, 256])}
    assert load(wan_tensors(), recorded).tensors["head.head.weight"].shape == (64, 256)


def without(tensors, *names):
    return {name: value for name, value in tensors.items() if name not in names}


LLM = {"token_embd.weight": ("F16", (8, 32)), "blk.0.attn_q.weight": ("F16", (32, 32))}
T5 = without(umt5_tensors(), "enc.blk.1.attn_rel_b.weight")
WRONG = {
    "not fixed": (
        without(wan_tensors(), "patch_embedding.weight"),
        "patch_embedding.weight is missing.*fix_5d",
    ),
    "umt5": (umt5_tensors(), "is a UMT5 text encoder; load it with the Wan GGUF text encoder loader"),
    "t5": (T5, "is a T5 text encoder, not UMT5"),
    "language model": (LLM, "is a language model; Wan needs the UMT5-XXL text encoder"),
    "lora": (
        {"diffusion_model.blocks.0.self_attn.q.lora_down.weight": ("F16", (4, 32))},
        "is a LoRA; load it",
    ),
    "flux": ({"double_blocks.0.img_attn.qkv.weight": ("F16", (96, 32))}, "is a Flux model; this pack runs"),
    "vae": (dict.fromkeys(VAE_21, ("F16", (1, 1))), "is a Wan VAE; load it with the Load VAE node"),
    "other": ({"some.weight": ("F16", (4, 32))}, r"is not a model this pack knows \(first tensors: some.weight\)"),
    "nothing": ({}, r"is not a model this pack knows \(first tensors: none\)"),
    "a block's tensor missing": (
        without(wan_tensors(), "blocks.1.ffn.0.bias"),
        "1 of 69 tensors .*blocks.1.ffn.0.bias",
    ),
    "vace": (
        {**wan_tensors(), "vace_patch_embedding.weight": ("F16", (256, 96, 1, 2, 2))},
        "is a Wan VACE model",
    ),
    "unknown variant": (
        {**wan_tensors(), "blocks.0.new.weight": ("F16", (32,))},
        "1 tensors do not belong .*0.new",
    ),
    "transposed": (
        {**wan_tensors(), "blocks.1.ffn.0.weight": ("F16", (256, 512))},
        r"\(256, 512\); \(512, 256\) fits",
    ),
    "wrong width": ({**wan_tensors(), "text_embedding.2.bias": ("F16", (128,))}, r"has shape \(128,\); \(256,\) fits"),
    "odd dim": (wan_tensors(dim=64, quantised="F16"), "dim is 64; a multiple of 128"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_says_what_it_is(case, load):
    tensors, message = WRONG[case]
    with pytest.raises(WrongModelError, match=message) as caught:
        load(tensors)
    assert str(caught.value).startswith("wan.gguf: ")


def test_the_metadata_string_does_not_decide(load):
    """Other models say "wan", and Wan files say anything or nothing."""
    assert load(wan_tensors(), {"general.architecture": text("pig")}).config["dim"] == 256
    with pytest.raises(WrongModelError, match="language model"):
        load(LLM, OFFICIAL_KEYS)


def test_image_branch(load):
    tensors = wan_tensors(image=True, channels=36)
    tensors["img_emb.emb_pos"] = ("F32", (1, 514, 1280))
    loaded = load(tensors)
    assert loaded.config["model_type"] == "i2v"
    assert loaded.config["flf_pos_embed_token_number"] == 514
    assert loaded.tensors["img_emb.emb_pos"].shape == (1, 514, 1280)


def test_the_model_is_the_host_s(load, host_dir):
    """The names and shapes are exactly those of the host's WanModel built from our config."""
    from comfy.ldm.wan.model import WanModel
    from comfy.ops import disable_weight_init

    for image in (False, True):
        loaded = load(wan_tensors(image=image, channels=36))
        model = WanModel(**loaded.config, device="meta", dtype=torch.float32, operations=disable_weight_init)
        expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
        assert {name: packed.shape for name, packed in loaded.tensors.items()} == expected
        assert sum(math.prod(shape) for shape in expected.values()) == sum(p.numel for p in loaded.tensors.values())


def test_loading_copies_nothing(load):
    """Every tensor lies in one mapping of the file: the span of their addresses is the file's data section."""
    loaded = load(wan_tensors())
    starts = np.array([packed.data.data_ptr() for packed in loaded.tensors.values()])
    assert starts.max() - starts.min() < loaded.path.stat().st_size

"""describe(): one line for every good file, the reason for every bad one, and never an exception."""

import re

import numpy as np
import pytest

from wan_gguf.loaders.describe import describe, vae_latent_channels
from wan_gguf.loaders.identify import WrongModelError
from wan_gguf.tests.loaders.build import gguf_bytes, safetensors_bytes, sparse_gguf, text
from wan_gguf.tests.loaders.models import (
    TOKENIZER,
    VAE_21,
    VAE_22,
    WAN_MODELS,
    safetensors_model,
    umt5_tensors,
    wan_tensors,
)

LABELS = [  # channels in, channels out, image branch, the summary's start
    (16, 16, False, "Wan T2V transformer, dim 256, 2 layers, 16 channels"),
    (36, 16, False, "Wan I2V transformer, dim 256, 2 layers, 16 channels"),
    (36, 16, True, "Wan I2V transformer, dim 256, 2 layers, 16 channels"),
    (48, 48, False, "Wan TI2V transformer, dim 256, 2 layers, 48 channels"),
    (20, 16, False, "Wan transformer, dim 256, 2 layers, 16 channels"),
    (48, 16, False, "Wan transformer, dim 256, 2 layers, 16 channels"),
]


@pytest.mark.parametrize(("channels", "out", "image", "start"), LABELS)
@pytest.mark.parametrize(("quantised", "types"), [("Q8_0", "Q8_0"), ("F16", "F16")])
def test_wan_files(channels, out, image, start, quantised, types, tmp_path):
    tensors = wan_tensors(channels=channels, out=out, image=image, quantised=quantised)
    (tmp_path / "wan.gguf").write_bytes(gguf_bytes(tensors))
    found = describe(tmp_path / "wan.gguf")
    assert (found.kind, found.summary, found.problem) == ("wan", f"{start}, {types}", None)


def test_a_wan_file_of_full_size(tmp_path):
    """A file of 0.9 GB that is a hole but for its header; as in Q4_K_M files, v and ffn.2 are Q6_K."""
    dim, ffn, channels, out, layers, image, _ = WAN_MODELS["Wan2.1-T2V-1.3B"]
    tensors = wan_tensors(dim, ffn, channels, out, layers, image, text_dim=4096)
    for name, (type_name, shape) in tensors.items():
        if type_name == "Q4_K" and name.endswith((".v.weight", "ffn.2.weight")):
            tensors[name] = ("Q6_K", shape)
    found = describe(sparse_gguf(tmp_path / "wan.gguf", tensors, {"general.architecture": text("wan")}))
    assert (found.kind, found.problem) == ("wan", None)
    assert found.summary == "Wan T2V transformer, dim 1536, 30 layers, 16 channels, Q4_K+Q6_K"
    assert (found.latent_channels, found.config["dim"]) == (out, dim)


def test_umt5_files(tmp_path):
    (tmp_path / "a.gguf").write_bytes(gguf_bytes(umt5_tensors(), TOKENIZER))
    found = describe(tmp_path / "a.gguf")
    assert (found.kind, found.problem) == ("umt5", None)
    assert found.summary == "UMT5 text encoder, width 256, 2 layers, 300 tokens, Q8_0"
    (tmp_path / "b.safetensors").write_bytes(safetensors_bytes(safetensors_model("BF16")))
    assert describe(tmp_path / "b.safetensors").summary == "UMT5 text encoder, width 256, 2 layers, 300 tokens, BF16"


def test_umt5_files_without_tokenizer_are_known_but_not_usable(tmp_path):
    (tmp_path / "a.gguf").write_bytes(gguf_bytes(umt5_tensors()))
    found = describe(tmp_path / "a.gguf")
    assert (found.kind, found.problem is not None) == ("umt5", True)
    assert "a.gguf: has no tokenizer" in str(found.problem)
    (tmp_path / "b.safetensors").write_bytes(safetensors_bytes(safetensors_model(spiece=None)))
    assert "has no tokenizer" in str(describe(tmp_path / "b.safetensors").problem)


@pytest.mark.parametrize(("shapes", "version", "channels"), [(VAE_21, "2.1", 16), (VAE_22, "2.2", 48)])
def test_vae_files(shapes, version, channels, tmp_path):
    table = {name: ("F16", shape, np.zeros(shape, "<f2").tobytes()) for name, shape in shapes.items()}
    path = tmp_path / "vae.safetensors"
    path.write_bytes(safetensors_bytes(table))
    found = describe(path)
    assert (found.kind, found.summary) == ("vae", f"Wan {version} VAE, {channels} latent channels, F16")
    assert found.latent_channels == vae_latent_channels(path) == vae_latent_channels(shapes) == channels


def test_latent_channels_of_something_else():
    with pytest.raises(WrongModelError, match="VAE: is a VAE in diffusers naming; use the VAE file made for ComfyUI"):
        vae_latent_channels({"decoder.conv_in.weight": (1,)})


BROKEN = {
    "zip pickle": (
        b"PK\x03\x04" + bytes(100),
        "is a pickle .* which can run code when opened; use the",
    ),
    "pickle": (b"\x80\x02ctorch\n", "is a pickle"),
    "lfs": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        "a Git LFS pointer; download the real",
    ),
    "html": (b"<!doctype html><html>", "a web page, not a model"),
    "empty": (b"", "is empty"),
    "zip": (b"7z\xbc\xaf\x27\x1c", "a compressed archive; unpack it first"),
    "text": (b"hello, this is not a model", r"of an unknown kind \(first bytes 68 65 6c 6c"),
    "cut gguf": (gguf_bytes(umt5_tensors(), TOKENIZER)[:9000], "x.bin: tensor .* the download is incomplete"),
    "cut safetensors": (safetensors_bytes(safetensors_model())[:90000], "x.bin: tensor .* the download is incomplete"),
    "other safetensors": (safetensors_bytes({"x.lora_A.weight": ("F16", (1,), b"ab")}), "is a LoRA"),
    "fp8 umt5": (
        safetensors_bytes(safetensors_model() | {"scaled_fp8": ("F8_E4M3", (2,), b"ab")}),
        "tensor scaled_fp8: dtype F8_E4M3; F32, F16 and BF16 are allowed; use a 16-bit file or a GGUF",
    ),
    "vae as gguf": (
        gguf_bytes({"decoder.middle.0.residual.0.gamma": ("F16", (4, 1, 1))}),
        "is a Wan VAE as GGUF; use its safetensors version",
    ),
    "unfixed wan": (
        gguf_bytes({n: t for n, t in wan_tensors(layers=1).items() if n != "patch_embedding.weight"}),
        "patch_embedding.weight is missing",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_are_unknown_and_say_why(case, tmp_path):
    content, message = BROKEN[case]
    (tmp_path / "x.bin").write_bytes(content)
    found = describe(tmp_path / "x.bin")
    assert found.kind == "unknown"
    assert found.problem == found.summary
    assert re.search(message, found.summary), found.summary


OTHERS = {  # a tensor that only this family has -> what the file is
    "double_blocks.0.img_attn.qkv.weight": "a Flux model",
    "model.diffusion_model.double_blocks.0.img_attn.qkv.weight": "a Flux model",
    "txt_in.individual_token_refiner.blocks.0.norm1.weight": "a Hunyuan video model",
    "patchify_proj.weight": "an LTX video model",
    "txt_norm.weight": "a Qwen-Image model",
    "joint_blocks.0.context_block.attn.qkv.weight": "a Stable Diffusion 3 model",
    "cap_embedder.1.weight": "a Lumina 2 or Z-Image model",
    "t5_yproj.weight": "a Mochi video model",
    "enc.blk.0.attn_q.weight": "a T5 text encoder, not UMT5 (it has a relative bias in its first block only)",
    "text_model.encoder.layers.0.self_attn.q_proj.weight": "a CLIP text encoder",
    "blk.0.attn_q.weight": "a language model",
    "diffusion_model.blocks.0.ffn.0.lora_up.weight": "a LoRA",
    "decoder.mid.block_1.conv1.weight": "an image VAE, as of Stable Diffusion or Flux",
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("kind", ["gguf", "safetensors"])
def test_files_of_other_families_say_what_they_are(name, kind, tmp_path):
    path = tmp_path / f"x.{kind}"
    tensors = gguf_bytes({name: ("F16", (4, 4))}), safetensors_bytes({name: ("F16", (4, 4), bytes(32))})
    path.write_bytes(tensors[kind == "safetensors"])
    found = describe(path)
    assert (found.kind, found.other[0]) == ("unknown", OTHERS[name])
    assert found.problem == f"x.{kind}: is {found.other[0]}; {found.other[1]}"


def test_a_wan_transformer_as_safetensors(tmp_path):
    tensors = dict.fromkeys(wan_tensors(layers=1), ("F16", (1,), b"ab"))
    (tmp_path / "x.gguf").write_bytes(safetensors_bytes(tensors))
    assert describe(tmp_path / "x.gguf").summary == (
        "x.gguf: is a Wan transformer as safetensors; load it with the host's 'Load Diffusion Model' node, or make "
        "a GGUF of it with the node 'Wan GGUF Convert' or `python3 cli convert`"
    )


def test_a_file_that_nobody_knows_is_not_another_model(tmp_path):
    (tmp_path / "x.gguf").write_bytes(gguf_bytes({"weight": ("F16", (4, 4))}))
    found = describe(tmp_path / "x.gguf")
    assert (found.kind, found.other) == ("unknown", None)
    assert "not a model this pack knows (first tensors: weight)" in found.summary


def test_a_missing_file_and_a_folder(tmp_path):
    assert "cannot be read" in describe(tmp_path / "none.gguf").summary
    assert "cannot be read" in describe(tmp_path).summary

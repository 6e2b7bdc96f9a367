"""The stock node classes, in one chain on our MODEL and CLIP."""

import folder_paths
import pytest
import safetensors.torch
import torch

import nodes  # the host's: the pack's root is not on sys.path
from wan_gguf.host.models import load_diffusion_model
from wan_gguf.host.text_encoder import load_text_encoder


@pytest.fixture
def lora_name(tmp_path, monkeypatch, make_lora):
    """A LoRA file in the host's loras folder."""
    safetensors.torch.save_file(make_lora(), tmp_path / "tiny_lora.safetensors")
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "loras", ([str(tmp_path)], {".safetensors"}))
    folder_paths.filename_list_cache.pop("loras", None)
    return "tiny_lora.safetensors"


def run(model, conditioning):
    latent = {"samples": torch.zeros(1, 16, 2, 8, 8)}
    arguments = (model, 1, 2, 3.0, "euler", "simple", conditioning(1), conditioning(2), latent)
    return nodes.KSampler().sample(*arguments)[0]["samples"]


def test_ksampler_and_lora_loader_model_only(wan_file, stock_wan, lora_name, conditioning):
    latents = []
    for model in (load_diffusion_model(wan_file[0]), stock_wan):
        patched = nodes.LoraLoaderModelOnly().load_lora_model_only(model, lora_name, 0.8)[0]
        latents.append((run(model, conditioning), run(patched, conditioning), run(model, conditioning)))
    (base, with_lora, removed), (stock_base, stock_with_lora, _) = latents
    assert (base - stock_base).abs().max() < 1e-4  # the tolerance of test_models.py
    assert (with_lora - stock_with_lora).abs().max() < 1e-4
    assert (with_lora - base).abs().max() > 0.05
    assert torch.equal(removed, base)


def test_clip_text_encode(umt5_file):
    clip = load_text_encoder(umt5_file[0])
    conditioning = nodes.CLIPTextEncode().encode(clip, "a red circle")[0]
    assert conditioning[0][0].shape == (1, 512, 64)
    assert torch.isfinite(conditioning[0][0]).all()

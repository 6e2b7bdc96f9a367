"""A LoRA merged by the converter and the same LoRA beside packed weights: the same latent, on the reference model."""

import pytest
import torch
from safetensors.torch import save_file

from wan_gguf.convert.merge import Lora, with_loras
from wan_gguf.convert.plan import plan_gguf
from wan_gguf.convert.run import convert
from wan_gguf.convert.source import open_source
from wan_gguf.host.lora import load_lora
from wan_gguf.host.models import load_diffusion_model
from wan_gguf.host.paths import REFERENCE_FOLDER

REFERENCE = REFERENCE_FOLDER / "wan_reference_dit_f16.gguf"
STRENGTH = 0.8


@pytest.fixture(scope="module")
def lora(tmp_path_factory):
    """Pairs for a third of the matrices and a difference of a bias, in lightx2v's naming."""
    generator = torch.Generator().manual_seed(3)
    tensors = {"diffusion_model.blocks.2.ffn.0.diff_b": torch.randn(1024, generator=generator) * 0.02}
    for i in range(6):
        for leaf, n, k in (("self_attn.q", 256, 256), ("cross_attn.o", 256, 256), ("ffn.2", 256, 1024)):
            module = f"diffusion_model.blocks.{i}.{leaf}"
            tensors[f"{module}.lora_up.weight"] = torch.randn(n, 8, generator=generator) * 0.05
            tensors[f"{module}.lora_down.weight"] = torch.randn(8, k, generator=generator) * 0.05
            tensors[f"{module}.alpha"] = torch.tensor(4)
    path = tmp_path_factory.mktemp("lora") / "lora.safetensors"
    save_file(tensors, path)
    return path


def converted(folder, file_type, lora=None):
    source = open_source(REFERENCE)
    if lora is not None:
        source, _ = with_loras(source, [Lora(lora, STRENGTH)])
    target = folder / f"{file_type}_{lora is not None}.gguf"
    convert(source, plan_gguf(source, file_type), target)
    return load_diffusion_model(target)


def rms(difference):
    return difference.square().mean().sqrt()


def test_merged_is_as_good_as_beside(tmp_path, ksample, lora):
    plain = load_diffusion_model(REFERENCE)
    before = ksample(plain)
    beside = ksample(load_lora(plain, lora, STRENGTH)[0])
    effect = rms(beside - before)
    assert effect > 0.02

    # unquantised: the same sum, rounded elsewhere (the tolerance of test_lora.py)
    assert (ksample(converted(tmp_path, "F32", lora)) - beside).abs().max() < 1e-4

    # quantised: the weights' own errors, which are of one size with and without the LoRA in them
    merged_error = rms(ksample(converted(tmp_path, "Q8_0", lora)) - beside)
    beside_error = rms(ksample(load_lora(converted(tmp_path, "Q8_0"), lora, STRENGTH)[0]) - beside)
    assert merged_error < 2 * beside_error
    assert beside_error < 2 * merged_error
    assert merged_error < effect / 2  # without the LoRA in it, it would be the effect

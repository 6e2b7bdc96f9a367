"""docs/reproducibility.md, tried with the reference model: a prompt, some steps and their frames, compared as floats.

Needs the reference model's files in reference_model/files.
"""

import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass

import comfy.ldm.modules.diffusionmodules.model
import comfy.model_management
import comfy.sd
import comfy.utils
import pytest
import torch

from wan_gguf.host.models import load_diffusion_model
from wan_gguf.host.paths import REFERENCE_FOLDER
from wan_gguf.host.sampler import sample_latent
from wan_gguf.host.text_encoder import encode_prompt, load_text_encoder
from wan_gguf.host.vae import decode_latent

PROMPT, NEGATIVE = "a red circle moves left", "蓝色方形"
SETTINGS = {"seed": 3, "steps": 3, "cfg": 4.0, "shift": 3.0, "solver": "unipc", "cfg_mode": "batched"}
SIZE = (16, 3, 8, 8)  # latent channels, frames, height, width: 9 frames of 64 x 64 pixels, 48 tokens


@dataclass(frozen=True)
class Span:
    """A prompt's text without weights."""

    text: str
    weight: float = 1.0


@pytest.fixture
def vae():
    """The reference VAE, loaded as the host's Load VAE does."""
    return comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(REFERENCE_FOLDER / "wan_reference_vae.safetensors")))


def encode(text=PROMPT):
    """CONDITIONING of a text, from an encoder that is loaded for it."""
    return encode_prompt(load_text_encoder(REFERENCE_FOLDER / "wan_reference_umt5_f16.gguf"), [Span(text)])


@pytest.fixture(scope="module")
def prompts():
    """The positive and the negative prompt, encoded once."""
    with torch.inference_mode():
        return encode(), encode(NEGATIVE)


@pytest.fixture
def sample(prompts):
    """sample(mode, batch, dtype, **changed settings) -> the sampled latent, from a model that is loaded for it."""

    def run(mode="exact", batch=1, dtype="fp32", **changed):
        model = load_diffusion_model(REFERENCE_FOLDER / "wan_reference_dit_f16.gguf", dtype, mode)
        latent = {"samples": torch.zeros(batch, *SIZE)}
        return sample_latent(model, *prompts, latent, **{**SETTINGS, **changed})["samples"]

    return run


@pytest.fixture
def with_threads():
    """with_threads(function) -> {threads: result}."""
    before = torch.get_num_threads()

    def run(function, counts=(1, 2, 3)):
        results = {}
        for count in counts:
            torch.set_num_threads(count)
            results[count] = function()
        return results

    yield run
    torch.set_num_threads(before)


def noise(*shape):
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(1))


# Rounding differs by one unit in the last place of some activations (2^-24 relative); three steps at guidance 4 make at
# most (2 * 4 - 1) ** 3 times that of values up to about 4, over some 30 layers: 30 * 343 * 4 * 2^-24 = 2.5e-3.
LATENT_ROUNDING = 2.5e-3
# The decoder has about 30 convolutions of at most 32 * 27 products each, and activations near 1: 30 * 864 * 2^-24 is
# 1.5e-3, less than half a step of 8 bits, so a pixel may become its neighbour's value and no other.
FRAME_ROUNDING = 1 / 510


def test_threads_do_not_change_prompt_and_frames(vae, with_threads):
    frames = with_threads(lambda: decode_latent(vae, {"samples": noise(1, *SIZE)}))
    for results in (with_threads(lambda: encode()[0][0]), frames):
        assert results[1].std() > 1e-3
        assert all(torch.equal(result, results[1]) for result in results.values())


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("mode", ["exact", "int8"])
def test_threads_do_not_change_a_latent(sample, with_threads, mode, dtype):
    results = with_threads(lambda: sample(mode, dtype=dtype, steps=2))
    assert results[1].std() > 0.1
    assert all(torch.equal(result, results[1]) for result in results.values())


def test_the_same_number_of_threads_gives_the_same_bytes(sample, vae, with_threads):
    """Between two runs the number is another one, and everything is loaded again."""

    def run():
        return encode()[0][0], sample(), sample(mode="int8"), decode_latent(vae, {"samples": noise(1, *SIZE)})

    first, _, again = (with_threads(run, [count])[count] for count in (2, 3, 2))
    assert [torch.equal(one, other) for one, other in zip(first, again, strict=True)] == [True] * 4


def test_a_video_is_the_same_in_any_batch_of_cfg_mode_batched(sample):
    alone, together = sample(), sample(batch=3)
    assert torch.equal(together[:1], alone)
    assert not torch.equal(together[1:2], alone)


def test_cfg_modes_give_the_same_bytes(sample):
    assert torch.equal(sample(cfg_mode="split"), sample())


def test_a_video_is_the_same_alone_and_in_a_batch_evaluated_one_by_one(sample):
    assert torch.equal(sample(cfg_mode="split", batch=2)[:1], sample(cfg_mode="split"))


def test_in_mode_int8_the_batch_changes_a_video(sample):
    """The columns kept exact are those that are loudest in all tokens of a call."""
    alone, together = sample(mode="int8"), sample(mode="int8", batch=2)
    assert torch.equal(sample(mode="int8"), alone)
    assert not torch.equal(together[:1], alone)


def test_a_video_is_decoded_alike_alone_and_in_a_batch(vae):
    latent = noise(2, *SIZE)
    alone = [decode_latent(vae, {"samples": video}) for video in latent.split(1)]
    assert torch.equal(decode_latent(vae, {"samples": latent}), torch.cat(alone))


def test_little_free_memory_does_not_change_decoded_frames(vae, monkeypatch):
    """ComfyUI's VAE cuts its attention into as many slices as fit the free memory; within our decode it does not."""
    latent = {"samples": noise(1, *SIZE)}
    expected, of_host = decode_latent(vae, latent), vae.decode(latent["samples"])[0]
    little = LittleMemory(1 << 14)  # the attention of a frame of 8 x 8 takes 40 KiB
    monkeypatch.setattr(comfy.ldm.modules.diffusionmodules.model, "model_management", little)
    assert torch.equal(decode_latent(vae, latent), expected) and not little.asked
    found = vae.decode(latent["samples"])[0]
    assert little.asked or comfy.model_management.pytorch_attention_enabled_vae()
    assert (found - of_host).abs().max() < FRAME_ROUNDING


class LittleMemory:
    """The host's memory management, as the VAE's attention sees it."""

    def __init__(self, free_bytes: int):
        self.free_bytes, self.asked = free_bytes, 0

    def __getattr__(self, name: str):
        return getattr(comfy.model_management, name)

    def get_free_memory(self, *_arguments, **_settings) -> int:
        self.asked += 1
        return self.free_bytes


def test_loras_in_another_order_differ_by_rounding_only(wan_file, ksample, make_lora, add_lora):
    first, second = make_lora(seed=1), make_lora(seed=2, rank=4)
    model = load_diffusion_model(wan_file[0], "fp32")
    one = ksample(add_lora(add_lora(model, first), second, 0.5))
    other = ksample(add_lora(add_lora(model, second, 0.5), first))
    assert (one - ksample(model)).abs().max() > 0.01
    assert (one - other).abs().max() < LATENT_ROUNDING


PROCESS = """
import importlib.util, json, sys
root, host = sys.argv[1:3]
sys.path[:] = [entry for entry in sys.path if entry not in ("", root)]
spec = importlib.util.spec_from_file_location("wan_gguf", root + "/__init__.py", submodule_search_locations=[root])
sys.modules["wan_gguf"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["wan_gguf"])
sys.path.insert(0, host)
sys.argv = sys.argv[:1]
from comfy.cli_args import args
args.cpu = True
import hashlib
import torch
from wan_gguf.tests.host import test_same_bytes as run
with torch.inference_mode():
    print("HASH", run.hash_of_a_run())
"""


def hash_of_a_run() -> str:
    """A prompt, its latent and its frames on the CPU, as one hash."""
    encoder = load_text_encoder(REFERENCE_FOLDER / "wan_reference_umt5_f16.gguf")
    positive, negative = encode_prompt(encoder, [Span(PROMPT)]), encode_prompt(encoder, [Span(NEGATIVE)])
    model = load_diffusion_model(REFERENCE_FOLDER / "wan_reference_dit_f16.gguf", "fp32")
    latent = sample_latent(model, positive, negative, {"samples": torch.zeros(1, *SIZE)}, **SETTINGS)
    vae = comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(REFERENCE_FOLDER / "wan_reference_vae.safetensors")))
    digest = hashlib.sha256()
    for tensor in (positive[0][0], latent["samples"], decode_latent(vae, latent)):
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this process would compute on the GPU, the other one on the CPU")
def test_another_process_gives_the_same_bytes(root, host_dir):
    threads = str(torch.get_num_threads())
    command = [sys.executable, "-c", PROCESS, str(root), str(host_dir)]
    done = subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", env={**os.environ, "OMP_NUM_THREADS": threads}
    )
    assert done.returncode == 0, done.stderr
    assert f"HASH {hash_of_a_run()}" in done.stdout


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA or ROCm GPU")
@pytest.mark.parametrize("mode", ["exact", "int8"])
def test_a_gpu_repeats_itself(sample, vae, mode):
    first = sample(mode=mode)
    comfy.model_management.unload_all_models()
    assert torch.equal(sample(mode=mode), first)
    assert torch.equal(decode_latent(vae, {"samples": first}), decode_latent(vae, {"samples": first}))

"""Repeated runs leave no tensor behind, counted exactly: every tensor that Python can reach, and its bytes."""

import gc

import comfy.model_management
import pytest
import torch

from wan_gguf.host.models import load_diffusion_model
from wan_gguf.host.text_encoder import load_text_encoder

RUNS = 3


def is_compilers(tensor: torch.Tensor) -> bool:
    """Whether it stands for a shape in a graph of torch.compile, which earlier tests may have left behind."""
    return tensor._has_symbolic_sizes_strides


def live_tensors():
    """(number, bytes) of all tensors reachable or not yet collected."""
    gc.collect()
    tensors = [thing for thing in gc.get_objects() if isinstance(thing, torch.Tensor) and not is_compilers(thing)]
    return len(tensors), sum(tensor.nbytes for tensor in tensors)


@pytest.fixture(params=["exact", "int8"])
def model(request, wan_file, monkeypatch):
    monkeypatch.setattr("wan_gguf.ops.linear.MIN_TOKENS", 1)  # the tiny latent has fewer tokens than int8 is worth
    return load_diffusion_model(wan_file[0], "fp32", request.param)


def test_sampling_again_and_again_leaves_no_tensor(model, ksample):
    ksample(model, steps=1)
    before = live_tensors()
    for seed in range(RUNS):
        ksample(model, steps=1 + seed % 2, seed=seed)
    assert live_tensors() == before
    comfy.model_management.unload_all_models()
    ksample(model, steps=1)
    assert live_tensors() == before
    kept = ksample(model, steps=1)
    assert live_tensors()[1] == before[1] + kept.nbytes, "the count does not see a tensor that is kept"


def test_loras_that_come_and_go_leave_no_tensor(wan_file, ksample, make_lora, add_lora):
    model = load_diffusion_model(wan_file[0], "fp32")
    ksample(add_lora(model, make_lora()), steps=1)
    ksample(model, steps=1)
    before = live_tensors()
    for seed in range(RUNS):
        ksample(add_lora(model, make_lora(seed)), steps=1)
        ksample(model, steps=1)
    assert live_tensors() == before


def test_models_that_come_and_go_leave_no_tensor(wan_file, ksample):
    def load_and_run():
        ksample(load_diffusion_model(wan_file[0], "fp32"), steps=1)
        comfy.model_management.unload_all_models()

    load_and_run()
    before = live_tensors()
    for _ in range(RUNS):
        load_and_run()
    assert live_tensors() == before


def test_prompts_leave_no_tensor(umt5_file):
    clip = load_text_encoder(umt5_file[0])

    def encode(text):
        clip.encode_from_tokens_scheduled(clip.tokenize(text))

    encode("a red circle")
    before = live_tensors()
    for text in ("a blue square moves left", "红色的圆形", "a red circle"):
        encode(text)
    assert live_tensors() == before

"""Models load in one mode and run in another: scripts and other packs do both."""

import comfy.model_management
import pytest
import torch

from wan_gguf.host.models import load_diffusion_model
from wan_gguf.tests.host.accelerator import Accelerator, bytes_left, install


@pytest.mark.parametrize("load_in_inference_mode", [True, False])
@pytest.mark.parametrize("run_in_inference_mode", [True, False])
def test_every_combination_of_modes_is_exact(
    wan_file, ksample, make_lora, add_lora, load_in_inference_mode, run_in_inference_mode
):
    expected = ksample(load_diffusion_model(wan_file[0]))
    with torch.inference_mode(load_in_inference_mode):
        model = load_diffusion_model(wan_file[0])
    with torch.inference_mode(run_in_inference_mode), torch.no_grad():
        assert torch.equal(ksample(model), expected)
        patched = ksample(add_lora(model, make_lora()))
        model.model.to("cpu")
        assert not torch.equal(patched, expected)
        assert torch.equal(ksample(model), expected)


@pytest.mark.parametrize("load_in_inference_mode", [True, False])
@pytest.mark.parametrize("run_in_inference_mode", [True, False])
def test_a_model_goes_to_a_device_and_back_in_every_combination(
    wan_file, ksample, make_lora, add_lora, monkeypatch, load_in_inference_mode, run_in_inference_mode
):
    with Accelerator():
        install(monkeypatch)
        with torch.inference_mode(load_in_inference_mode):
            model = load_diffusion_model(wan_file[0], "fp32")
        with torch.inference_mode(run_in_inference_mode), torch.no_grad():
            model = add_lora(model, make_lora())
            expected = ksample(model, steps=1, cfg=1.0)
        with torch.inference_mode(load_in_inference_mode), torch.no_grad():
            comfy.model_management.unload_all_models()
            assert bytes_left() == 0
            assert torch.equal(ksample(model, steps=1, cfg=1.0), expected)
        comfy.model_management.unload_all_models()
        assert bytes_left() == 0

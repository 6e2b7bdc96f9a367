"""Models load in one mode and run in another: scripts and other packs do both."""

import pytest
import torch

from wan_gguf.host.models import load_diffusion_model


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

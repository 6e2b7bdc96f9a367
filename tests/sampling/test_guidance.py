"""Guidance: the formula, and scale 1 without a negative prediction."""

import pytest
import torch

from wan_gguf.sampling.guidance import cfg, needs_uncond, validate_cfg


def test_by_hand():
    cond, uncond = torch.tensor([1.0, 2.0]), torch.tensor([0.5, 4.0])
    assert cfg(cond, uncond, 5.0).tolist() == [3.0, -6.0]


def test_scale_1_does_not_read_uncond():
    cond = torch.tensor([0.1, 0.7])
    assert not needs_uncond(1.0)
    assert torch.equal(cfg(cond, None, 1.0), cond)
    assert torch.equal(cfg(cond, torch.full((2,), torch.nan), 1.0), cond)


def test_other_scales_need_uncond():
    assert needs_uncond(1.01)
    with pytest.raises(ValueError, match=r"cfg 4\.0 needs the prediction for the negative prompt"):
        cfg(torch.ones(2), None, 4.0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_inputs_are_combined_in_float32(dtype):
    cond, uncond = torch.randn(2, 64, generator=torch.Generator().manual_seed(0)).to(dtype)
    guided = cfg(cond, uncond, 7.5)
    assert guided.dtype == torch.float32
    assert torch.equal(guided, uncond.float() + 7.5 * (cond.float() - uncond.float()))


@pytest.mark.parametrize("scale", [1.0, 5, 15.0])
def test_allowed_scales(scale):
    assert validate_cfg(scale) == float(scale)


@pytest.mark.parametrize("scale", [0.99, 15.01, 0, -3, float("nan"), float("inf")])
def test_bad_scale_is_refused(scale):
    with pytest.raises(ValueError, match=r"cfg must be from 1\.0 to 15\.0, got "):
        validate_cfg(scale)

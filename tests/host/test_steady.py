"""Activation functions whose bits depend on the value alone."""

import pytest
import torch

from wan_gguf.host.models import load_diffusion_model
from wan_gguf.host.steady import Steady, make_steady, steady
from wan_gguf.host.text_encoder import load_text_encoder

FUNCTIONS = {"gelu": torch.nn.GELU(approximate="tanh"), "silu": torch.nn.SiLU()}


@pytest.fixture
def threads():
    """Sets torch's number of threads until the test ends."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def values(count, dtype=torch.float32):
    return (3 * torch.randn(count, generator=torch.Generator().manual_seed(0))).to(dtype)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("count", [1, 63, 64, 16385, 120033])
def test_neither_threads_nor_the_place_matter(name, dtype, count, threads):
    x, function, results = values(count, dtype), FUNCTIONS[name], []
    for number in range(1, 9):
        threads(number)
        results.append(steady(function, x))
    assert all(torch.equal(result, results[0]) for result in results)
    assert torch.equal(steady(function, x[count // 3 :]), results[0][count // 3 :])
    # torch's two ways to compute it agree to the last bit of a result, which is never larger than x
    assert ((results[0] - function(x)).abs() <= torch.finfo(dtype).eps * x.abs()).all()


def test_without_it_threads_matter(threads):
    """If torch ever stops this, steady.py can go."""
    x, results = values(120033), []
    for number in range(1, 9):
        threads(number)
        results.append(FUNCTIONS["gelu"](x))
    assert not all(torch.equal(result, results[0]) for result in results)


def test_shapes_are_kept_and_what_is_not_contiguous_is_taken(threads):
    x = values(5 * 7 * 11).view(5, 7, 11)
    assert torch.equal(steady(FUNCTIONS["silu"], x), steady(FUNCTIONS["silu"], x.flatten()).view(x.shape))
    turned = x.transpose(0, 2)
    assert torch.equal(steady(FUNCTIONS["silu"], turned), steady(FUNCTIONS["silu"], turned.contiguous()))
    assert steady(FUNCTIONS["silu"], x[:0]).shape == (0, 7, 11)


def test_every_activation_of_both_models_is_steady(wan_file, umt5_file):
    for model in (
        load_diffusion_model(wan_file[0]).model.diffusion_model,
        load_text_encoder(umt5_file[0]).cond_stage_model,
    ):
        kinds = [type(module) for module in model.modules()]
        wrapped = sum(kind is Steady for kind in kinds)
        assert sum(kind in (torch.nn.GELU, torch.nn.SiLU) for kind in kinds) == wrapped
        functions = [module.act for module in model.modules() if "act" in vars(module)]
        assert wrapped + len(functions) >= 2
        assert all(function.func is steady for function in functions)


def test_other_modules_stay():
    model = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.SiLU())
    make_steady(model)
    assert type(model[0]) is torch.nn.ReLU and type(model[1]) is Steady

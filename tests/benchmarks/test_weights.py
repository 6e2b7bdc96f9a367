"""What the errors are measured on: random weights of the right layout, normal values, types as in published files."""

import gguf
import numpy as np
import pytest
import torch

from wan_gguf.benchmarks import weights
from wan_gguf.benchmarks.shapes import FRAMES, TI2V_5B, Inputs, Shape
from wan_gguf.loaders.wan_config import wan_shapes
from wan_gguf.ops.dequantize import dequantize
from wan_gguf.ops.formats import FORMATS


# the mean: Q6_K's numbers are uniform in -32..31, half a step of 18.5 per standard deviation below 0
@pytest.mark.parametrize(("type_name", "mean"), [("Q4_K", 0), ("Q6_K", -0.5 / 18.5), ("Q8_0", 0), ("F16", 0)])
def test_values_are_centred_and_of_the_stated_size(type_name, mean):
    values = dequantize(weights.random_packed(type_name, (512, 2048), np.random.default_rng(1)))
    assert values.isfinite().all()
    assert float(values.std()) == pytest.approx(weights.STD, rel=0.05)
    # all come from a pool, whose own mean strays by STD / sqrt(its numbers); 5 of that
    stray = 5 * weights.STD / (weights.POOL_BLOCKS * FORMATS[type_name].block_elems) ** 0.5
    assert float(values.mean()) == pytest.approx(mean * weights.STD, abs=stray)


@pytest.mark.parametrize(("type_name", "error"), [("Q4_K", 0.08), ("Q8_0", 0.01)])
def test_pools_are_quantised_normal_numbers(type_name, error):
    """The pool decodes to the numbers it was made of; Q4_K's own rounding is about 7e-2 of them, Q8_0's 5e-3."""
    elems = {"Q4_K": (8, 32), "Q8_0": (32,)}[type_name]
    numbers = np.random.default_rng(3).standard_normal((weights.POOL_BLOCKS, *elems))
    make = weights._POOLS.get(type_name, lambda rng: weights._gguf_pool(type_name, rng))
    pool = make(np.random.default_rng(3))
    decoded = gguf.quants.dequantize(pool, gguf.GGMLQuantizationType[type_name])
    expected = weights.STD * numbers.reshape(weights.POOL_BLOCKS, -1)
    assert np.linalg.norm(decoded - expected) < error * np.linalg.norm(expected)


def test_a_weight_repeats_for_its_seed_and_differs_between_seeds():
    first, same, other = (weights.random_packed("Q4_K", (64, 256), np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert torch.equal(first.data, same.data) and not torch.equal(first.data, other.data)


def test_types_are_those_of_published_files():
    """Counts per type of a TI2V-5B Q4_K_M: 10 matrices in each of 30 blocks, v and ffn.2 as Q6_K."""
    shapes = wan_shapes({**TI2V_5B, "num_layers": 30})
    for recipe, expected in {
        "Q4_K": {"Q4_K": 300},
        "Q4_K_M": {"Q4_K": 210, "Q6_K": 90},
        "Q8_0": {"Q8_0": 300},
    }.items():
        types = [weights.type_of(name, shape, recipe) for name, shape in shapes.items()]
        counts = {name: types.count(name) for name in set(types)}
        assert counts == {**expected, "F16": 6, "F32": 825 - 306}


def test_a_model_has_every_tensor_and_norms_near_one():
    tensors = weights.wan_weights(Shape.tiny().config, "Q4_K")
    assert tensors["blocks.0.ffn.2.weight"].shape == (256, 512)
    assert tensors["patch_embedding.weight"].shape == (256, 48, 1, 2, 2)
    assert float(dequantize(tensors["blocks.0.norm3.weight"]).mean()) == pytest.approx(1, abs=0.01)
    assert float(dequantize(tensors["blocks.0.norm3.bias"]).mean()) == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize(("tokens", "frames"), FRAMES.items())
def test_a_frame_has_390_tokens(tokens, frames):
    inputs = Inputs.random(Shape.real(4), frames, torch.bfloat16)
    batch, channels, length, height, width = inputs.x.shape
    assert (batch, channels, length * height * width // 4) == (1, 48, tokens)
    assert inputs.context.shape == (1, 512, 4096) and inputs.context.dtype == torch.bfloat16

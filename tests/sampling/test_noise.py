"""Start noise: the host's values from a generator of our own."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from wan_gguf.sampling.noise import MAX_SEED, seed_noise


@pytest.fixture
def global_generator():
    """The global generator, put back afterwards, for drawing as the host does."""
    state = torch.get_rng_state()
    yield
    torch.set_rng_state(state)


@pytest.mark.parametrize("seed", [0, 1, 42, 2**31 - 1, 2**32, 2**63 - 1, 2**63, MAX_SEED])
@pytest.mark.parametrize("shape", [(1, 16, 5, 8, 8), (2, 48, 1, 3, 5), (1, 1, 1, 1, 1)])
def test_equals_the_global_generator_after_manual_seed(seed, shape, global_generator):
    torch.manual_seed(seed)
    assert torch.equal(seed_noise(shape, seed), torch.randn(shape, dtype=torch.float32))


def test_equals_the_hosts_prepare_noise(host_dir, global_generator):
    import comfy.sample

    shape = (2, 16, 5, 8, 8)
    for seed in (0, 7, MAX_SEED):
        assert torch.equal(seed_noise(shape, seed), comfy.sample.prepare_noise(torch.zeros(shape), seed))


def test_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    noise = seed_noise((1, 16, 2, 4, 4), 3)
    assert torch.equal(torch.get_rng_state(), before)
    assert noise.dtype == torch.float32
    assert noise.device.type == "cpu"


@settings(max_examples=30, deadline=None)
@given(st.integers(0, MAX_SEED), st.integers(0, MAX_SEED))
@example(1, 2**32 + 1)
def test_same_seed_same_noise_other_seed_other_noise(one, other):
    shape = (1, 2, 2, 3, 3)
    assert torch.equal(seed_noise(shape, one), seed_noise(shape, one))
    same = torch.equal(seed_noise(shape, one), seed_noise(shape, other))
    assert same == (one % 2**32 == other % 2**32)  # torch takes the low 32 bits


@pytest.mark.parametrize("seed", [-1, MAX_SEED + 1, 1.0, "7", None, True])
def test_bad_seed_is_refused(seed):
    with pytest.raises(ValueError, match=r"seed must be a whole number from 0 to 18446744073709551615, got "):
        seed_noise((1,), seed)

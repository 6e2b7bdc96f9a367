"""Which expert takes which steps: the official splits, the comparison itself, words and refusals."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wan_gguf.sampling.experts import Split, resolve_boundary, split_steps, validate_boundary
from wan_gguf.sampling.schedules import SCHEDULES, Schedule


@pytest.mark.parametrize(
    ("solver", "steps", "shift", "boundary", "split"),
    [
        ("unipc", 40, 12.0, 0.875, (26, 14)),  # T2V-A14B
        ("unipc", 40, 5.0, 0.900, (15, 25)),  # I2V-A14B
        ("euler", 4, 5.0, 0.875, (2, 2)),  # the 4-step LoRAs: times 1000, 937.5, 833.3, 625
        ("euler", 4, 5.0, 0.900, (2, 2)),
    ],
)
def test_official_splits(solver, steps, shift, boundary, split):
    found = split_steps(SCHEDULES[solver](steps, shift), boundary)
    assert (found.high, found.low) == split


def schedule_of(times):
    timesteps = torch.tensor(times, dtype=torch.float64)
    return Schedule(torch.cat([timesteps / 1000, torch.zeros(1, dtype=torch.float64)]), timesteps)


@pytest.mark.parametrize(
    ("times", "high"),
    [
        ([900.0, 875.0, 874.0], 2),  # at the boundary: still high
        ([900.0, 874.0, 870.0], 1),
        ([875.0], 1),
        ([874.999], 0),
        ([1000.0, 999.0, 998.0], 3),
    ],
)
def test_the_comparison_includes_the_boundary(times, high):
    assert split_steps(schedule_of(times), 0.875) == Split(high, len(times) - high, 0.875)


def test_the_time_told_decides_not_the_sigma():
    """unipc truncates: sigma 0.8755 is told as 875 and 0.8749 as 874."""
    schedule = Schedule(torch.tensor([0.8755, 0.8749, 0.0]), torch.tensor([875.0, 874.0]))
    assert split_steps(schedule, 0.875).high == 1
    assert split_steps(schedule, 0.8752).high == 0  # although sigma is above


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(sorted(SCHEDULES)),
    st.integers(1, 100),
    st.floats(0.1, 20),
    st.floats(0.0, 1.0, allow_subnormal=False),  # the training's tests have the process flush them to 0
)
def test_high_steps_come_first_and_none_is_lost(solver, steps, shift, boundary):
    schedule = SCHEDULES[solver](steps, shift)
    split = split_steps(schedule, boundary)
    assert split.high + split.low == steps
    assert bool((schedule.timesteps[: split.high] >= boundary * 1000).all())
    assert bool((schedule.timesteps[split.high :] < boundary * 1000).all())


def test_in_words():
    assert str(Split(26, 14, 0.875)) == "26 steps high_noise + 14 steps low_noise (boundary 0.875)"
    assert str(Split(1, 0, 0.9)) == "1 step high_noise + 0 steps low_noise (boundary 0.9)"


@pytest.mark.parametrize(
    ("boundary", "takes_image", "resolved"), [(0, False, 0.875), (0.0, True, 0.9), (0.5, True, 0.5), (1, False, 1.0)]
)
def test_zero_is_the_models_own_boundary(boundary, takes_image, resolved):
    assert resolve_boundary(boundary, takes_image) == resolved


@pytest.mark.parametrize("boundary", [-0.1, 1.001, 875, float("nan")])
def test_bad_boundary_is_refused(boundary):
    with pytest.raises(ValueError, match=r"boundary must be from 0\.0 to 1\.0, got .*0\.875 for text to video"):
        validate_boundary(boundary)

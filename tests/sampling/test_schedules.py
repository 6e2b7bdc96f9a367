"""Schedules: the official numbers, an independent evaluation in numpy, and refusals."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wan_gguf.sampling.schedules import SCHEDULES, Schedule, dpmpp_schedule, euler_schedule, unipc_schedule
from wan_gguf.sampling.solvers import SOLVERS


def official_unipc(steps, shift):
    """The official scheduler's numpy arithmetic: float32 endpoint, float64 grid, float32 sigmas."""
    base = np.linspace(float(np.float32(1.0 - 1.0 / 1000)), 0.0, steps + 1)[:-1]
    sigmas = shift * base / (1 + (shift - 1) * base)
    return np.append(sigmas, 0.0).astype(np.float32), (sigmas * 1000).astype(np.int64)


def official_dpmpp(steps, shift):
    """get_sampling_sigmas of the official fm_solvers.py, and what set_timesteps makes of it."""
    base = np.linspace(1, 0, steps + 1)[:steps]
    sigmas = shift * base / (1 + (shift - 1) * base)
    return np.append(sigmas, 0.0).astype(np.float32), (sigmas * 1000).astype(np.int64)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 200), st.sampled_from([1.0, 3.0, 5.0, 8.0, 12.0, 16.0]) | st.floats(0.05, 50))
def test_dpmpp_equals_the_official_evaluation(steps, shift):
    sigmas, timesteps = official_dpmpp(steps, shift)
    schedule = dpmpp_schedule(steps, shift)
    np.testing.assert_array_equal(schedule.sigmas.numpy(), np.minimum(sigmas, 1).astype(np.float64))
    assert schedule.timesteps.tolist() == np.minimum(timesteps, 1000).tolist()


def test_dpmpp_truncates_whole_numbers_as_the_official_code_does():
    """At shift 1 all times are whole numbers where 1000 is a multiple of steps: the last bit of the grid decides."""
    for steps in range(1, 1001):
        assert dpmpp_schedule(steps, 1.0).timesteps.tolist() == official_dpmpp(steps, 1.0)[1].tolist()


def test_dpmpp_starts_at_exactly_one():
    schedule = dpmpp_schedule(40, 12.0)
    assert schedule.sigmas[0].item() == 1.0
    assert schedule.timesteps[:2].tolist() == [1000.0, 997.0]  # 12 * 0.975 / (1 + 11 * 0.975) * 1000 = 997.868
    assert schedule.sigmas[-1].item() == 0.0


@pytest.mark.parametrize(("steps", "shift"), [(40, 12.0), (40, 5.0), (50, 5.0), (50, 3.0), (4, 5.0)])
def test_unipc_has_the_sigmas_of_diffusers_flow_schedule(steps, shift):
    """Their DPM-Solver's grid with use_flow_sigmas, 0.999 to 0, is the one that the official code gives unipc."""
    diffusers = pytest.importorskip("diffusers", reason="a development dependency")
    scheduler = diffusers.DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift
    )
    scheduler.set_timesteps(steps)
    schedule = unipc_schedule(steps, shift)
    assert (scheduler.sigmas.double() - schedule.sigmas).abs().max() < 1e-6
    assert scheduler.timesteps.tolist() == schedule.timesteps.tolist()


def test_official_start_by_hand():
    schedule = unipc_schedule(40, 5.0)
    assert schedule.sigmas[0].item() == pytest.approx(5 * 0.999 / (1 + 4 * 0.999), abs=1e-7)  # 0.9998
    assert schedule.timesteps[0].item() == 999.0
    assert schedule.timesteps[1].item() == 994.0  # of 5 * 0.974025 / (1 + 4 * 0.974025) * 1000 = 994.695
    assert schedule.sigmas[1].item() * 1000 == pytest.approx(994.695, abs=0.001)  # the solver's sigma is not truncated
    assert schedule.sigmas[-1].item() == 0.0


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 200), st.sampled_from([1.0, 3.0, 5.0, 8.0, 12.0, 16.0]) | st.floats(0.05, 50))
def test_unipc_equals_the_official_evaluation(steps, shift):
    sigmas, timesteps = official_unipc(steps, shift)
    schedule = unipc_schedule(steps, shift)
    # at most one float32 step apart: torch and numpy round the float64 grid differently in the last bit
    np.testing.assert_allclose(schedule.sigmas.numpy(), sigmas, rtol=1.2e-7, atol=0)
    assert schedule.timesteps.tolist() == timesteps.tolist()


def test_timesteps_that_fall_on_whole_numbers_are_not_truncated_one_too_low():
    for divisor in (1, 3, 9, 27, 37, 111, 333, 999):
        expected = [999 - 999 // divisor * i for i in range(divisor)]
        assert unipc_schedule(divisor, 1.0).timesteps.tolist() == expected


def test_euler_starts_at_exactly_one_and_tells_the_exact_time():
    schedule = euler_schedule(4, 5.0)
    assert schedule.sigmas.tolist() == pytest.approx(
        [1.0, 0.9375, 5 / 6, 0.625, 0.0], abs=1e-15
    )  # the 4-step LoRA list
    assert schedule.timesteps.tolist() == (schedule.sigmas[:-1] * 1000).tolist()
    assert schedule.timesteps[0].item() == 1000.0


def test_a_schedule_for_every_solver():
    assert SCHEDULES.keys() == SOLVERS.keys()


@pytest.mark.parametrize("name", SCHEDULES)
@settings(max_examples=100, deadline=None)
@given(st.integers(1, 400), st.floats(0.01, 100))
def test_every_schedule_is_valid(name, steps, shift):
    schedule = SCHEDULES[name](steps, shift)
    assert len(schedule) == steps
    assert schedule.sigmas.dtype == schedule.timesteps.dtype == torch.float64
    assert bool(((schedule.timesteps >= 0) & (schedule.timesteps <= 1000)).all())


@pytest.mark.parametrize("steps", [0, -1, 10_001, 4.0, None])
def test_bad_steps_are_refused(steps):
    with pytest.raises(ValueError, match="steps must be a whole number from 1 to 10000, got "):
        unipc_schedule(steps, 5.0)


@pytest.mark.parametrize("shift", [0.0, -5.0, 1000, float("nan"), float("inf")])
def test_bad_shift_is_refused(shift):
    with pytest.raises(ValueError, match=r"shift must be from 0\.01 to 100\.0, got "):
        euler_schedule(20, shift)


@pytest.mark.parametrize(
    "sigmas", [[1.0], [0.5, 0.5, 0.0], [0.2, 0.9, 0.0], [1.1, 0.5, 0.0], [1.0, 0.5, -0.1], [1.0, float("nan"), 0.0]]
)
def test_sigmas_that_do_not_fall_are_refused(sigmas):
    with pytest.raises(ValueError, match="sigmas must fall strictly within"):
        Schedule(torch.tensor(sigmas), torch.zeros(len(sigmas) - 1))


def test_wrong_lengths_are_refused():
    with pytest.raises(ValueError, match=r"N \+ 1 sigmas and N timesteps, got shapes \(3,\) and \(3,\)"):
        Schedule(torch.tensor([1.0, 0.5, 0.0]), torch.zeros(3))

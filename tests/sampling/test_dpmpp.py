"""DPM-Solver++(2M): against an independent float64 evaluation and against diffusers."""

import math

import pytest

from wan_gguf.sampling.noise import seed_noise
from wan_gguf.sampling.schedules import dpmpp_schedule
from wan_gguf.sampling.solvers import dpmpp, integrate
from wan_gguf.tests.sampling.fields import SHAPE, bent_velocity


def reference_dpmpp(velocity, x, sigmas, timesteps):
    """DPM-Solver++(2M) in float64 as the paper's algorithm 2 writes it, with D0 and D1, in numbers alpha and sigma."""
    denoised = []
    for i, timestep in enumerate(timesteps):
        sigma, alpha = sigmas[i], 1 - sigmas[i]
        to_sigma, to_alpha = sigmas[i + 1], 1 - sigmas[i + 1]
        denoised.append(x - sigma * velocity(x, timestep))
        if to_sigma == 0:
            return denoised[-1]  # first order to sigma 0: h is infinite
        ratio = (to_sigma / to_alpha) / (sigma / alpha) if alpha else 0.0  # exp(-h)
        derivative = denoised[-1]
        if i > 0 and sigmas[i - 1] < 1:
            r0 = math.log((alpha / sigma) / ((1 - sigmas[i - 1]) / sigmas[i - 1])) / -math.log(ratio)
            derivative = derivative + (denoised[-1] - denoised[-2]) / (2 * r0)
        x = to_sigma / sigma * x - to_alpha * (ratio - 1) * derivative
    raise AssertionError("not reached")


@pytest.mark.parametrize(("steps", "shift"), [(40, 12.0), (40, 5.0), (50, 5.0), (3, 5.0), (2, 5.0), (1, 5.0)])
def test_dpmpp_equals_the_float64_reference(steps, shift):
    schedule, x = dpmpp_schedule(steps, shift), seed_noise(SHAPE, 5)
    expected = reference_dpmpp(bent_velocity, x.double(), schedule.sigmas.tolist(), schedule.timesteps.tolist())
    assert (integrate(dpmpp, bent_velocity, x.double(), schedule) - expected).abs().max() < 1e-11
    single = integrate(dpmpp, bent_velocity, x, schedule)
    assert (single - expected).abs().max() < 3e-5  # float32: 50 steps of a field of size 3


@pytest.mark.parametrize(("steps", "shift"), [(1, 5.0), (2, 5.0), (10, 3.0), (14, 5.0), (40, 12.0), (50, 5.0)])
def test_dpmpp_equals_diffusers_on_the_official_schedule(steps, shift):
    diffusers = pytest.importorskip("diffusers", reason="a development dependency")
    scheduler = diffusers.DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift, solver_order=2
    )
    schedule = dpmpp_schedule(steps, shift)
    scheduler.set_timesteps(steps)  # its own grid begins at 0.999, the official one at 1
    scheduler.sigmas, scheduler.timesteps = schedule.sigmas.float(), schedule.timesteps.long()
    x = theirs = seed_noise(SHAPE, 9).double()
    for timestep in scheduler.timesteps:
        theirs = scheduler.step(bent_velocity(theirs, timestep.item()), timestep, theirs).prev_sample
    difference = (integrate(dpmpp, bent_velocity, x, schedule) - theirs).abs().max() / theirs.abs().max()
    # They round x to float32 after every step, 2**-24 of it, and their coefficients are float32. The field grows an
    # error by e**2 at most: 50 steps * 2 roundings * 6e-8 * 7.4.
    assert difference < 5e-5

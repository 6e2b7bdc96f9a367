"""Solvers: against diffusers, against an independent float64 evaluation, against an exact solution."""

import math

import numpy as np
import pytest
import torch

from wan_gguf.sampling.noise import seed_noise
from wan_gguf.sampling.schedules import (
    SCHEDULES,
    UNIPC_SIGMA_MAX,
    Schedule,
    euler_schedule,
    unipc_schedule,
)
from wan_gguf.sampling.solvers import SOLVERS, dpmpp, euler, integrate, unipc
from wan_gguf.tests.sampling.fields import SHAPE, bent_velocity


def reference_unipc(velocity, x, sigmas, timesteps):
    """UniPC of order 2 in float64, spelled out: lists of everything, a linear solve per step, no code of ours."""
    lambdas = [math.log((1 - s) / s) for s in sigmas[:-1]]
    x0s, starts, orders = [], [], []
    for i, timestep in enumerate(timesteps):
        x0s.append(x - sigmas[i] * velocity(x, timestep))
        if i > 0:
            h = lambdas[i] - lambdas[i - 1]
            ratios = [(lambdas[i - 2] - lambdas[i - 1]) / h] if orders[-1] == 2 else []
            differences = [(x0s[i - 2] - x0s[i - 1]) / r for r in ratios] + [x0s[i] - x0s[i - 1]]
            e, p = math.exp(-h), len(differences)
            # phi_2 and phi_3 of -h, in the closed forms of exponential integrators
            phis = [(e - 1 + h) / h**2, (e - 1 + h - h * h / 2) / -(h**3)]
            right = [phis[k] * math.factorial(k + 1) * -h / (e - 1) for k in range(p)]
            left = [[r**k for r in [*ratios, 1.0]] for k in range(p)]
            solved = torch.linalg.solve(
                torch.tensor(left, dtype=torch.float64), torch.tensor(right, dtype=torch.float64)
            ).tolist()
            rhos = [0.5] if p == 1 else solved
            x = sigmas[i] / sigmas[i - 1] * starts[-1] - (1 - sigmas[i]) * (e - 1) * x0s[i - 1]
            for rho, difference in zip(rhos, differences, strict=True):
                x = x - (1 - sigmas[i]) * (e - 1) * rho * difference
        starts.append(x)
        orders.append(1 if i in (0, len(timesteps) - 1) else 2)
        if i == len(timesteps) - 1:
            return x0s[-1]  # sigma 0: the step lands on the last prediction
        h = lambdas[i + 1] - lambdas[i]
        e = math.exp(-h)
        x = sigmas[i + 1] / sigmas[i] * starts[-1] - (1 - sigmas[i + 1]) * (e - 1) * x0s[i]
        if orders[-1] == 2:
            slope = (x0s[i - 1] - x0s[i]) / ((lambdas[i - 1] - lambdas[i]) / h)
            x = x - (1 - sigmas[i + 1]) * (e - 1) * 0.5 * slope
    raise AssertionError("not reached")


@pytest.mark.parametrize(
    ("steps", "shift"), [(40, 12.0), (40, 5.0), (50, 5.0), (20, 3.0), (3, 5.0), (2, 5.0), (1, 5.0)]
)
def test_unipc_equals_the_float64_reference(steps, shift):
    schedule, x = unipc_schedule(steps, shift), seed_noise(SHAPE, 5)
    expected = reference_unipc(bent_velocity, x.double(), schedule.sigmas.tolist(), schedule.timesteps.tolist())
    assert (integrate(unipc, bent_velocity, x.double(), schedule) - expected).abs().max() < 1e-11
    single = integrate(unipc, bent_velocity, x, schedule)
    assert (single - expected).abs().max() < 3e-5  # float32: 40 steps of a field of size 3


def diffusers_unipc(shift):
    """Their solver as the Wan pipelines configure it."""
    diffusers = pytest.importorskip("diffusers", reason="a development dependency")
    return diffusers.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift, solver_order=2, solver_type="bh2"
    )


@pytest.mark.parametrize("shift", [3.0, 5.0, 12.0])
@pytest.mark.parametrize("steps", [1, 2, 3, 10, 40, 50])
def test_unipc_equals_diffusers_on_the_official_schedule(steps, shift):
    # Their default grid runs from 1 - 1e-6 to 0.001 before the shift; the official one, 0.999 to 0, is passed in.
    scheduler, schedule = diffusers_unipc(shift), unipc_schedule(steps, shift)
    scheduler.set_timesteps(sigmas=np.linspace(UNIPC_SIGMA_MAX, 0, steps + 1)[:-1])
    assert (scheduler.sigmas - schedule.sigmas).abs().max() < 1e-7
    assert scheduler.timesteps.tolist() == schedule.timesteps.tolist()
    x = theirs = seed_noise(SHAPE, 9).double()
    for timestep in scheduler.timesteps:
        theirs = scheduler.step(bent_velocity(theirs, timestep.item()), timestep, theirs).prev_sample
    difference = (integrate(unipc, bent_velocity, x, schedule) - theirs).abs().max() / theirs.abs().max()
    assert difference < 1e-6  # their coefficients are float32, ours float64


@pytest.mark.parametrize(("steps", "shift"), [(40, 12.0), (40, 5.0), (7, 3.0)])
def test_unipc_equals_diffusers_on_its_own_schedule(steps, shift):
    scheduler = diffusers_unipc(shift)
    scheduler.set_timesteps(steps)
    schedule = Schedule(scheduler.sigmas.double(), scheduler.timesteps.double())
    x = theirs = seed_noise(SHAPE, 10).double()
    for timestep in scheduler.timesteps:
        theirs = scheduler.step(bent_velocity(theirs, timestep.item()), timestep, theirs).prev_sample
    assert (integrate(unipc, bent_velocity, x, schedule) - theirs).abs().max() / theirs.abs().max() < 1e-6


def gaussian_flow(mean=0.3, deviation=0.6):
    """Data N(mean, deviation**2): the exact velocity at (x, time), and the exact flow between two sigmas."""

    def spread(sigma):
        return math.sqrt(((1 - sigma) * deviation) ** 2 + sigma**2)

    def velocity(x, timestep):
        sigma = timestep / 1000
        centred = (x - (1 - sigma) * mean) / spread(sigma) ** 2
        return sigma * centred - (mean + (1 - sigma) * deviation**2 * centred)

    def flow(x, start, end):
        return (1 - end) * mean + (x - (1 - start) * mean) * spread(end) / spread(start)

    return velocity, flow


def exact_times(sigmas):
    """A schedule whose model times are exact, so that only the solver's own error is left."""
    return Schedule(sigmas, 1000 * sigmas[:-1])


def order(found):
    """Slope of log error over log steps, for step counts that double."""
    return math.log2(found[0] / found[-1]) / (len(found) - 1)


def test_each_solver_converges_with_its_order():
    """Between two fixed sigmas, read off before the last step, which is of first order by design."""
    velocity, flow = gaussian_flow()
    x = seed_noise(SHAPE, 1).double()
    exact = flow(x, 0.95, 0.05)

    def error(solver, steps):
        xs = []
        sigmas = torch.linspace(0.95, 0.05, steps + 1, dtype=torch.float64)
        schedule = exact_times(torch.cat([sigmas, torch.zeros(1, dtype=torch.float64)]))
        integrate(solver, velocity, x, schedule, lambda i, x_i, denoised: xs.append(x_i))
        return (xs[-1] - exact).abs().max().item()

    euler_errors, dpmpp_errors, unipc_errors = (
        [error(solver, steps) for steps in (40, 80, 160, 320)] for solver in (euler, dpmpp, unipc)
    )
    assert 0.95 < order(euler_errors) < 1.05
    assert 1.9 < order(dpmpp_errors) < 2.1
    assert 2.8 < order(unipc_errors) < 3.2  # the corrector adds one order to the predictor's two
    assert unipc_errors[-1] < euler_errors[-1] / 1000


@pytest.mark.parametrize("name", SOLVERS)
def test_whole_runs_reach_the_exact_solution(name):
    velocity, flow = gaussian_flow()
    x, found = seed_noise(SHAPE, 1).double(), []
    for steps in (20, 80, 320, 1280):
        schedule = exact_times(SCHEDULES[name](steps, 5.0).sigmas)
        exact = flow(x, schedule.sigmas[0].item(), 0.0)
        found.append((integrate(SOLVERS[name], velocity, x, schedule) - exact).abs().max().item())
    # measured 0.35, 0.09, 0.024, 0.0060 (euler), 0.16, 0.016, 0.0028, 0.00027 (dpm++) and 0.15, 0.0080, 0.00090,
    # 0.00006 (unipc)
    assert found == sorted(found, reverse=True)
    assert found[0] < {"euler": 0.5, "dpm++": 0.25, "unipc": 0.25}[name]
    assert found[-1] < {"euler": 9e-3, "dpm++": 4e-4, "unipc": 9e-5}[name]


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_last_step_lands_on_the_last_prediction(name, steps):
    seen = []
    schedule = SCHEDULES[name](steps, 5.0)
    result = integrate(
        SOLVERS[name], bent_velocity, seed_noise(SHAPE, 2), schedule, lambda i, x, denoised: seen.append(denoised)
    )
    assert len(seen) == steps
    torch.testing.assert_close(result, seen[-1], rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", SOLVERS)
def test_a_constant_prediction_is_returned_exactly_along_a_straight_line(name):
    """A model that always answers the same x0 gives straight paths: every solver must follow them."""
    x, target = seed_noise(SHAPE, 3).double(), torch.full(SHAPE, 0.25, dtype=torch.float64)
    schedule = exact_times(SCHEDULES[name](12, 5.0).sigmas)
    on_line = []

    def callback(i, x_i, denoised):
        sigma, start = schedule.sigmas[i], schedule.sigmas[0]
        on_line.append(torch.allclose(x_i, target + (x - target) * sigma / start, rtol=0, atol=1e-12))

    result = integrate(SOLVERS[name], lambda x_i, t: (x_i - target) * 1000 / t, x, schedule, callback)
    assert on_line == [True] * 12
    assert torch.allclose(result, target, rtol=0, atol=1e-12)


def test_unipc_runs_from_pure_noise():
    """sigma 1 has log(alpha / sigma) = -inf: the coefficients take their limits instead of becoming nan."""
    schedule, x = euler_schedule(12, 5.0), seed_noise(SHAPE, 4).double()
    result, distances = integrate(unipc, bent_velocity, x, schedule), []
    for gap in (1e-3, 1e-6, 1e-9, 1e-12, 1e-15):
        sigmas = schedule.sigmas.clone()
        sigmas[0] -= gap
        near = integrate(unipc, bent_velocity, x, Schedule(sigmas, schedule.timesteps))
        distances.append((result - near).abs().max().item())
    # the limit is approached as slowly as 1 / log(gap) goes to 0
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < distances[0] / 3
    assert torch.isfinite(integrate(unipc, bent_velocity, x, euler_schedule(2, 5.0))).all()


@pytest.mark.parametrize("name", SOLVERS)
def test_the_model_is_told_the_schedules_times_once_each(name):
    times = []

    def velocity(x, timestep):
        assert isinstance(timestep, float)
        times.append(timestep)
        return -x

    schedule = SCHEDULES[name](7, 3.0)
    integrate(SOLVERS[name], velocity, seed_noise(SHAPE, 0), schedule)
    assert times == schedule.timesteps.tolist()


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("source", ["velocity", "callback"])
def test_an_interrupt_passes_through_untouched(name, source):
    class Interrupted(BaseException):
        pass

    stop, calls = Interrupted(), []

    def interrupt(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise stop

    def velocity(x, timestep):
        if source == "velocity":
            interrupt(x)
        return -x

    with pytest.raises(Interrupted) as caught:
        integrate(
            SOLVERS[name],
            velocity,
            seed_noise(SHAPE, 0),
            SCHEDULES[name](8, 5.0),
            interrupt if source == "callback" else None,
        )
    assert caught.value is stop
    assert len(calls) == 3


@pytest.mark.parametrize("name", SOLVERS)
def test_callback_gets_steps_in_order_and_changes_nothing(name):
    x, schedule = seed_noise(SHAPE, 6), SCHEDULES[name](9, 5.0)
    before, steps = x.clone(), []
    with_callback = integrate(SOLVERS[name], bent_velocity, x, schedule, lambda i, x_i, denoised: steps.append(i))
    assert steps == list(range(9))
    assert torch.equal(with_callback, integrate(SOLVERS[name], bent_velocity, x, schedule))
    assert torch.equal(x, before)


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_models_are_integrated_in_float32(name, dtype):
    seen = set()

    def velocity(x, timestep):
        seen.add(x.dtype)
        return bent_velocity(x, timestep).to(dtype)

    x, schedule = seed_noise(SHAPE, 8), SCHEDULES[name](10, 5.0)
    result = integrate(SOLVERS[name], velocity, x.to(dtype), schedule)
    assert seen == {torch.float32}
    assert result.dtype == torch.float32
    # the rounding of x and of each v, relative eps / 2, times a growth of the field below e**2
    bound = 20 * torch.finfo(dtype).eps * x.abs().max()
    assert (result - integrate(SOLVERS[name], bent_velocity, x, schedule)).abs().max() < bound


@pytest.mark.parametrize("name", SOLVERS)
def test_bit_equal_on_repeat_and_for_1_and_2_threads(name):
    threads, schedule = torch.get_num_threads(), SCHEDULES[name](10, 5.0)
    x = seed_noise((1, 16, 5, 32, 32), 11)  # 82k values: above the size at which torch splits work
    runs = []
    try:
        for count in (1, 2, 2, 1):
            torch.set_num_threads(count)
            runs.append(integrate(SOLVERS[name], bent_velocity, x, schedule))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(run, runs[0]) for run in runs[1:])


@pytest.mark.parametrize("name", SOLVERS)
def test_batch_items_do_not_influence_each_other(name):
    x, schedule = seed_noise((3, *SHAPE[1:]), 12), SCHEDULES[name](6, 5.0)
    whole = integrate(SOLVERS[name], bent_velocity, x, schedule)
    for i in range(3):
        assert torch.equal(whole[i : i + 1], integrate(SOLVERS[name], bent_velocity, x[i : i + 1], schedule))


@pytest.mark.parametrize("name", SOLVERS)
def test_values_on_a_gpu_are_close_to_the_cpus(name):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    x, schedule = seed_noise(SHAPE, 13), SCHEDULES[name](40, 5.0)
    result = integrate(SOLVERS[name], bent_velocity, x.cuda(), schedule)
    assert result.is_cuda
    assert (result.cpu() - integrate(SOLVERS[name], bent_velocity, x, schedule)).abs().max() < 1e-4

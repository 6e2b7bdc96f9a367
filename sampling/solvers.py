"""Solvers for flow models: one short function each, from noise at sigmas[0] down to sigmas[-1].

The model predicts v = noise - x0, so x0 = x - sigma * v. With alpha = 1 - sigma and lambda = log(alpha / sigma), a step
from s to t of length h = lambda_t - lambda_s solves the part linear in x exactly and approximates the rest from x0
predictions (data prediction form):

    x_t = (sigma_t / sigma_s) * x_s + alpha_t * (1 - exp(-h)) * (x0_s + correction)

Sources: UniPC, Zhao et al. 2023, arXiv 2302.04867 (B2(h) = exp(h) - 1, data prediction), and DPM-Solver++(2M), Lu et
al. 2022, arXiv 2211.01095 (midpoint). The order rules are the defaults of Wan2.2's wan/utils/fm_solvers_unipc.py and
fm_solvers.py: order 2, first order in the first and in the last step.

A solver is a generator: it yields (x, timestep) where it wants the model's velocity, is sent that, and returns the x at
sigmas[-1]. So a run can stop between two evaluations, while one expert leaves and another enters, and keep its history.
`integrate` runs one from end to end.

Coefficients are Python floats (float64). Tensor arithmetic stays on x's device, in float32, or float64 for a float64 x.
"""

import math
from collections.abc import Callable, Generator

import torch

from .schedules import Schedule

Velocity = Callable[[torch.Tensor, float], torch.Tensor]  # (x, timestep in [0, 1000]) -> v, guidance already applied
StepCallback = Callable[[int, torch.Tensor, torch.Tensor], object]  # (step_index, x, denoised), both read-only
Run = Generator[tuple[torch.Tensor, float], torch.Tensor, torch.Tensor]  # yields (x, timestep), is sent v, returns x
Solver = Callable[[torch.Tensor, Schedule, StepCallback | None], Run]


def integrate(
    solver: Solver, velocity: Velocity, x: torch.Tensor, schedule: Schedule, callback: StepCallback | None = None
) -> torch.Tensor:
    """x at sigmas[0] -> x at sigmas[-1], same shape, float32 (float64 stays).

    An exception from `velocity` or `callback` (an interrupt) passes through untouched; `x` is never written to.
    """
    run = solver(x, schedule, callback)
    request = next(run)
    while True:
        try:
            request = run.send(velocity(*request))
        except StopIteration as end:
            return end.value


def euler(x: torch.Tensor, schedule: Schedule, callback: StepCallback | None = None) -> Run:
    """First order, one evaluation per step."""
    sigmas, timesteps = schedule.sigmas.tolist(), schedule.timesteps.tolist()
    x = _at_least_float32(x)
    for i, timestep in enumerate(timesteps):
        v = (yield x, timestep).to(x)
        if callback is not None:
            callback(i, x, x - sigmas[i] * v)
        x = x + (sigmas[i + 1] - sigmas[i]) * v
    return x


def unipc(x: torch.Tensor, schedule: Schedule, callback: StepCallback | None = None) -> Run:
    """Second order, one evaluation per step.

    Each evaluation first corrects the x it was made at (UniC), then predicts the next (UniP); `callback` gets the
    corrected x.
    """
    sigmas, timesteps = schedule.sigmas.tolist(), schedule.timesteps.tolist()
    x = _at_least_float32(x)
    history: list[torch.Tensor] = []  # x0 predictions of earlier steps, newest first, two at most
    start, order = x, 0  # the corrected x the last step began with, and its order
    for i, timestep in enumerate(timesteps):
        denoised = x - sigmas[i] * (yield x, timestep).to(x)
        if i > 0:
            x = _update(start, sigmas[: i + 1], history[:order], arrived=denoised)
        if callback is not None:
            callback(i, x, denoised)
        history = [denoised, *history[:1]]
        order = _order(i, len(timesteps))
        start = x
        x = _update(start, sigmas[: i + 2], history[:order])
    return x


def dpmpp(x: torch.Tensor, schedule: Schedule, callback: StepCallback | None = None) -> Run:
    """DPM-Solver++(2M), second order, one evaluation per step: UniP without the correction."""
    sigmas, timesteps = schedule.sigmas.tolist(), schedule.timesteps.tolist()
    x = _at_least_float32(x)
    history: list[torch.Tensor] = []  # x0 predictions, newest first, two at most
    for i, timestep in enumerate(timesteps):
        denoised = x - sigmas[i] * (yield x, timestep).to(x)
        if callback is not None:
            callback(i, x, denoised)
        history = [denoised, *history[:1]]
        x = _update(x, sigmas[: i + 2], history[: _order(i, len(timesteps))])
    return x


SOLVERS: dict[str, Solver] = {"unipc": unipc, "dpm++": dpmpp, "euler": euler}


def _order(step: int, steps: int) -> int:
    """2, but 1 in the first step, which has no history, and in the last, which lands on sigma 0."""
    return min(2, step + 1, steps - step)


def _update(
    x: torch.Tensor, sigmas: list[float], history: list[torch.Tensor], arrived: torch.Tensor | None = None
) -> torch.Tensor:
    """One step from sigmas[-2] to sigmas[-1]; order = len(history). Predicts, or corrects when `arrived` is given.

    `history` holds the x0 predictions at sigmas[-2], sigmas[-3]; `arrived` the one at the predicted end of the step.
    """
    sigma_s, sigma_t = sigmas[-2:]
    h = _log_snr(sigma_t) - _log_snr(sigma_s)
    # w = 1 / r with r = (lambda_before - lambda_s) / h, always <= 0; 0 when the step before began at pure noise
    w = h / (_log_snr(sigmas[-3]) - _log_snr(sigma_s)) if len(history) > 1 else 0.0
    before_weight, arrived_weight = _predictor_weights(w) if arrived is None else _corrector_weights(h, w, len(history))
    x0 = history[0]
    mean = x0
    if len(history) > 1:
        mean = mean + before_weight * (history[1] - x0)
    if arrived is not None:
        mean = mean + arrived_weight * (arrived - x0)
    return (sigma_t / sigma_s) * x - ((1 - sigma_t) * math.expm1(-h)) * mean


def _predictor_weights(w: float) -> tuple[float, float]:
    """UniP: weights of (x0_before - x0_s) and of (x0_t - x0_s). Order 2 takes rho = 1/2, as the paper does.

    DPM-Solver++(2M) has the same ones: with r = (lambda_s - lambda_before) / h it adds (x0_s - x0_before) / (2 * r).
    """
    return 0.5 * w, 0.0


def _corrector_weights(h: float, w: float, order: int) -> tuple[float, float]:
    """UniC: weights of (x0_before - x0_s) and of (x0_t - x0_s).

    Order 2 solves the paper's order conditions, rho1 + rho2 = b1 and r * rho1 + rho2 = b2, written in w = 1 / r.
    """
    if order == 1:
        return 0.0, 0.5
    big_b = math.expm1(-h)
    phi_2 = big_b / -h - 1
    phi_3 = phi_2 / -h - 0.5
    b1, b2 = phi_2 / big_b, 2 * phi_3 / big_b
    rho1 = (b1 - b2) * w / (w - 1)
    return rho1 * w, b1 - rho1


def _log_snr(sigma: float) -> float:
    """lambda = log((1 - sigma) / sigma); -inf at pure noise, inf at a clean latent."""
    if sigma >= 1:
        return -math.inf
    return math.log1p(-sigma) - math.log(sigma) if sigma > 0 else math.inf


def _at_least_float32(x: torch.Tensor) -> torch.Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))

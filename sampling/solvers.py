"""Solvers for flow models: one short function each, from noise at sigmas[0] down to sigmas[-1].

The model predicts v = noise - x0, so x0 = x - sigma * v. With alpha = 1 - sigma and lambda = log(alpha / sigma), a step
from s to t of length h = lambda_t - lambda_s solves the part linear in x exactly and approximates the rest from x0
predictions (data prediction form):

    x_t = (sigma_t / sigma_s) * x_s + alpha_t * (1 - exp(-h)) * (x0_s + correction)

Source: UniPC, Zhao et al. 2023, arXiv 2302.04867 (B2(h) = exp(h) - 1, data prediction). The order rules are
the defaults of Wan2.2's wan/utils/fm_solvers_unipc.py: order 2, first order in the first and in the last step.

Coefficients are Python floats (float64). Tensor arithmetic stays on x's device, in float32, or float64 for a float64 x.
"""

import math
from collections.abc import Callable

import torch

from .schedules import Schedule

Velocity = Callable[[torch.Tensor, float], torch.Tensor]  # (x, timestep in [0, 1000]) -> v, guidance already applied
StepCallback = Callable[[int, torch.Tensor, torch.Tensor], object]  # (step_index, x, denoised), both read-only


def euler(
    velocity: Velocity, x: torch.Tensor, schedule: Schedule, callback: StepCallback | None = None
) -> torch.Tensor:
    """x at sigmas[0] -> x at sigmas[-1], same shape, float32 (float64 stays). First order, one evaluation per step.

    An exception from `velocity` or `callback` (an interrupt) passes through untouched; `x` is never written to.
    """
    sigmas, timesteps = schedule.sigmas.tolist(), schedule.timesteps.tolist()
    x = _at_least_float32(x)
    for i, timestep in enumerate(timesteps):
        v = velocity(x, timestep).to(x)
        if callback is not None:
            callback(i, x, x - sigmas[i] * v)
        x = x + (sigmas[i + 1] - sigmas[i]) * v
    return x


def unipc(
    velocity: Velocity, x: torch.Tensor, schedule: Schedule, callback: StepCallback | None = None
) -> torch.Tensor:
    """x at sigmas[0] -> x at sigmas[-1], same shape, float32 (float64 stays). Second order, one evaluation per step.

    Each evaluation first corrects the x it was made at (UniC), then predicts the next (UniP); `callback` gets the
    corrected x.
    An exception from `velocity` or `callback` (an interrupt) passes through untouched; `x` is never written to.
    """
    sigmas, timesteps = schedule.sigmas.tolist(), schedule.timesteps.tolist()
    x = _at_least_float32(x)
    history: list[torch.Tensor] = []  # x0 predictions of earlier steps, newest first, two at most
    start, order = x, 0  # the corrected x the last step began with, and its order
    for i, timestep in enumerate(timesteps):
        denoised = x - sigmas[i] * velocity(x, timestep).to(x)
        if i > 0:
            x = _unipc_update(start, sigmas[: i + 1], history[:order], arrived=denoised)
        if callback is not None:
            callback(i, x, denoised)
        history = [denoised, *history[:1]]
        order = min(2, i + 1, len(timesteps) - i)
        start = x
        x = _unipc_update(start, sigmas[: i + 2], history[:order])
    return x


SOLVERS: dict[str, Callable[..., torch.Tensor]] = {"unipc": unipc, "euler": euler}


def _unipc_update(
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
    """UniP: weights of (x0_before - x0_s) and of (x0_t - x0_s). Order 2 takes rho = 1/2, as the paper does."""
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

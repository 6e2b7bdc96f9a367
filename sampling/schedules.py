"""Noise levels of a run, for flow models: x(sigma) = (1 - sigma) * x0 + sigma * noise.

    shifted(sigma) = shift * sigma / (1 + (shift - 1) * sigma)        model time = 1000 * shifted sigma

unipc, as wan/utils/fm_solvers_unipc.py of Wan2.2 sets it up: N base sigmas evenly from 0.999 towards 0, shifted, then a
final 0. The model is told the time truncated to a whole number, the solver keeps the exact sigma.
dpm++, as wan/utils/fm_solvers.py (get_sampling_sigmas): the same from exactly 1.
euler: N base sigmas evenly from 1 towards 0, shifted, then a final 0; the model is told the exact time.
"""

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass

import torch

TRAIN_TIMESTEPS = 1000
MIN_SHIFT, MAX_SHIFT = 0.01, 100.0
MAX_STEPS = 10_000

# The official 1 - 1/1000 passes through float32, which lifts it by 1.3e-8. That surplus decides which whole number some
# times truncate to: at shift 1 and 9 steps the second is 888.00001 and gives 888, where float64 0.999 may give 887.
UNIPC_SIGMA_MAX = torch.tensor(0.999, dtype=torch.float32).item()


@dataclass(frozen=True, eq=False)
class Schedule:
    """N steps: `sigmas` (N + 1,) fall within [0, 1]; `timesteps` (N,) in [0, 1000] go to the model. CPU float64."""

    sigmas: torch.Tensor
    timesteps: torch.Tensor

    def __post_init__(self):
        if self.sigmas.ndim != 1 or self.timesteps.ndim != 1 or len(self.sigmas) != len(self.timesteps) + 1:
            shapes = f"{tuple(self.sigmas.shape)} and {tuple(self.timesteps.shape)}"
            raise ValueError(f"a schedule needs N + 1 sigmas and N timesteps, got shapes {shapes}")
        falling = bool((self.sigmas.diff() < 0).all())
        if len(self) < 1 or not falling or not 0 <= self.sigmas[-1] < self.sigmas[0] <= 1:
            raise ValueError(f"sigmas must fall strictly within [0, 1], in 1 step or more, got {self.sigmas.tolist()}")

    def __len__(self) -> int:
        return len(self.timesteps)


def unipc_schedule(steps: int, shift: float) -> Schedule:
    """The official Wan schedule for unipc: starts at shifted 0.999, whole-number timesteps."""
    return _official(_shifted(_falling(UNIPC_SIGMA_MAX, steps), shift))


def dpmpp_schedule(steps: int, shift: float) -> Schedule:
    """The official Wan schedule for dpm++: starts at exactly 1, whole-number timesteps."""
    return _official(_shifted(_falling_as_numpy(steps), shift))


def euler_schedule(steps: int, shift: float) -> Schedule:
    """Starts at exactly 1; timesteps are 1000 * sigma, not truncated."""
    sigmas = _shifted(_falling(1.0, steps), shift)
    return Schedule(sigmas, sigmas[:-1] * TRAIN_TIMESTEPS)


SCHEDULES: dict[str, Callable[[int, float], Schedule]] = {
    "unipc": unipc_schedule,
    "dpm++": dpmpp_schedule,
    "euler": euler_schedule,
}


def validate_steps(steps: int) -> int:
    """Return `steps` if it is a whole number from 1 to MAX_STEPS. Raises ValueError."""
    try:
        value = operator.index(steps)
    except TypeError:
        value = 0
    if not 1 <= value <= MAX_STEPS:
        raise ValueError(f"steps must be a whole number from 1 to {MAX_STEPS}, got {steps!r}")
    return value


def validate_shift(shift: float) -> float:
    """Return `shift` as a float in MIN_SHIFT to MAX_SHIFT. Raises ValueError, also for nan and inf."""
    value = float(shift)
    if not MIN_SHIFT <= value <= MAX_SHIFT or not math.isfinite(value):
        raise ValueError(f"shift must be from {MIN_SHIFT} to {MAX_SHIFT}, got {shift}; Wan uses 3, 5 or 12")
    return value


def _official(sigmas: torch.Tensor) -> Schedule:
    timesteps = (sigmas[:-1] * TRAIN_TIMESTEPS).trunc()
    # Truncation sees float64 sigmas, the official solver then works with float32 ones: 1 - sigma at the noisy end is
    # so small (8e-5 at shift 12) that the rounding shows in log(1 - sigma).
    return Schedule(sigmas.float().double(), timesteps)


def _falling(sigma_max: float, steps: int) -> torch.Tensor:
    return torch.linspace(sigma_max, 0.0, validate_steps(steps) + 1, dtype=torch.float64, device="cpu")


def _falling_as_numpy(steps: int) -> torch.Tensor:
    """1 to 0, rounded as numpy's linspace rounds: at whole numbers the last bit decides what a time truncates to."""
    steps = validate_steps(steps)
    base = torch.arange(steps + 1, dtype=torch.float64, device="cpu") * (-1.0 / steps) + 1.0
    base[-1] = 0.0
    return base


def _shifted(base: torch.Tensor, shift: float) -> torch.Tensor:
    shift = validate_shift(shift)
    return (shift * base / (1 + (shift - 1) * base)).clamp(max=1.0)  # rounding may pass 1 by one bit

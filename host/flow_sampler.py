"""Our solvers as the host's SAMPLER, for a whole run or for one expert's part of it.

The host prepares conditioning, loads the model, applies hooks and patches, shows previews and stops on interrupt;
only the loop is ours. The model predicts `denoised`; the solvers want the velocity of the flow,

    v = (x - denoised) / sigma      with sigma = timestep / 1000, the time the model was told

which may differ from the solver's own sigma: the official unipc tells the model whole-number times. The host's flow
models map sigma to 1000 * sigma whatever their shift is, so `shift` enters once, through our schedule.
"""

from collections.abc import Callable
from typing import Any

import comfy.samplers
import torch
from tqdm.auto import tqdm

from ..sampling.schedules import TRAIN_TIMESTEPS, Schedule
from ..sampling.solvers import Run, Solver, Velocity
from .watch import check_denoised

# The last times of a schedule of hundreds of steps truncate to 0, where denoised no longer says what v is.
MIN_TIMESTEP = 1.0


class FlowRun:
    """One run of a solver, which the guiders of the experts advance one after the other.

    With `on_cpu` what it keeps between two evaluations lies on the CPU, whatever the device of the model: many runs can
    wait for their next expert. The solvers add, subtract and multiply by numbers, each rounded once on every device, so
    no bit of the result depends on it.
    """

    def __init__(self, solver: Solver, schedule: Schedule, on_cpu: bool = False):
        self.solver = solver
        self.schedule = schedule
        self.on_cpu = on_cpu
        self.step = 0  # steps taken
        self._run: Run | None = None
        self._request: tuple[torch.Tensor, float] | None = None
        self._on_step: Callable | None = None

    def advance(self, velocity: Velocity, noise: torch.Tensor, stop: int, on_step: Callable) -> torch.Tensor:
        """Take steps until `stop` of them are taken in all; the x they end at. `noise` is where the first one starts.

        `on_step` gets (step, x, denoised) after each evaluation.
        """
        self._on_step = on_step
        if self._run is None:
            start = noise.to("cpu") if self.on_cpu else noise
            self._run = self.solver(start, self.schedule, self._forward)
            self._request = next(self._run)
        while self.step < stop:
            v = velocity(*self._request)
            self.step += 1
            try:
                self._request = self._run.send(v)
            except StopIteration as end:
                self._request = None
                return end.value
        return self._request[0]

    def _forward(self, step: int, x: torch.Tensor, denoised: torch.Tensor) -> None:
        self._on_step(step, x, denoised)


class FlowSampler(comfy.samplers.Sampler):
    """The steps of a run up to `stop`, with the model of one guider."""

    def __init__(
        self,
        run: FlowRun,
        stop: int,
        description: str | None = None,
        before_first_step: Callable[[], None] | None = None,
        before_last_step: Callable[[], None] | None = None,
    ):
        self.run = run
        self.stop = stop
        self.description = description
        self.before_first_step = before_first_step
        self.before_last_step = before_last_step

    def sample(
        self,
        model_wrap: Any,
        sigmas: torch.Tensor,
        extra_args: dict,
        callback: Callable | None,
        noise: torch.Tensor,
        latent_image: torch.Tensor | None = None,
        denoise_mask: torch.Tensor | None = None,
        disable_pbar: bool = False,
    ) -> torch.Tensor:
        """Called by the host's guider; `noise` is where the whole run starts, as in the official code."""
        denoiser = comfy.samplers.KSamplerX0Inpaint(model_wrap, sigmas)  # keeps masked parts of the latent as they are
        denoiser.latent_image, denoiser.noise = latent_image, noise
        run, steps = self.run, len(self.run.schedule)
        if self.before_first_step is not None:
            self.before_first_step()

        def velocity(x: torch.Tensor, timestep: float) -> torch.Tensor:
            if self.before_last_step is not None and run.step == self.stop - 1:
                self.before_last_step()
            x = x.to(noise)  # an expert may be on a device of its own
            sigma = max(timestep, MIN_TIMESTEP) / TRAIN_TIMESTEPS
            sigma_batch = x.new_full((x.shape[0],), sigma)

            def evaluate() -> torch.Tensor:
                return denoiser(x, sigma_batch, denoise_mask=denoise_mask, **extra_args)

            denoised = evaluate()
            check_denoised(denoised, run.step + 1, steps, model_wrap.model_patcher, x, again=evaluate)
            return (x - denoised) / sigma

        with tqdm(total=steps, initial=run.step, desc=self.description, disable=disable_pbar) as bar:

            def on_step(step: int, x: torch.Tensor, denoised: torch.Tensor) -> None:
                bar.update()
                if callback is not None:
                    callback(step, denoised, x, steps)

            sampled = run.advance(velocity, noise, self.stop, on_step).to(noise)
        if denoise_mask is None or self.stop < steps:
            return sampled
        return sampled * denoise_mask + latent_image * (1 - denoise_mask)

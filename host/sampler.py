"""Our solvers inside the host's guider: LATENT in, LATENT out.

The host prepares conditioning, loads the model, applies hooks and patches, shows previews and stops on interrupt;
only the loop is ours. The model predicts `denoised`; the solvers want the velocity of the flow,

    v = (x - denoised) / sigma      with sigma = timestep / 1000, the time the model was told

which may differ from the solver's own sigma: the official unipc tells the model whole-number times. The host's flow
models map sigma to 1000 * sigma whatever their shift is, so `shift` enters once, through our schedule.
"""

import itertools
from collections.abc import Callable
from typing import Any

import comfy.model_management
import comfy.model_sampling
import comfy.samplers
import comfy.utils
import latent_preview
import torch
from comfy.model_patcher import ModelPatcher
from tqdm.auto import tqdm

from ..sampling.guidance import validate_cfg
from ..sampling.noise import seed_noise
from ..sampling.schedules import SCHEDULES, TRAIN_TIMESTEPS, Schedule
from ..sampling.solvers import SOLVERS
from .attention import steady_attention
from .cfg_batching import CFG_MODES, cond_batch_function
from .models import ATTACHMENT
from .vae import KNOWN_VAES, describe_channels

# The last times of a schedule of hundreds of steps truncate to 0, where denoised no longer says what v is.
MIN_TIMESTEP = 1.0


def sample_latent(
    model: ModelPatcher,
    positive: list,
    negative: list,
    latent: dict,
    *,
    seed: int,
    steps: int,
    cfg: float,
    shift: float,
    solver: str,
    cfg_mode: str,
) -> dict:
    """Noise of `seed` in the shape of `latent` -> sampled latent, full denoise. Other keys of `latent` are kept.

    `positive` and `negative` are CONDITIONING; at cfg 1.0 the negative one is not evaluated. The key "wan_gguf" of the
    result records the settings. Raises ValueError before anything is loaded when inputs do not fit,
    RuntimeError when the model gives NaN.
    """
    _check_choices(solver, cfg_mode)
    settings = {"seed": seed, "steps": steps, "cfg": validate_cfg(cfg), "shift": shift, "solver": solver}
    schedule = SCHEDULES[solver](steps, shift)
    samples = latent["samples"]
    _check_latent(model, samples)
    _check_text(model, positive=positive, negative=negative)
    guider, attention = _guider(model, positive, negative, settings["cfg"], shift, cfg_mode)
    sampled = guider.sample(
        seed_noise(samples.shape, seed),
        samples,
        FlowSampler(schedule, SOLVERS[solver]),
        schedule.sigmas.float(),
        denoise_mask=latent.get("noise_mask"),
        callback=latent_preview.prepare_callback(model, steps),
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
        seed=seed,
    )
    settings |= {"cfg_mode": cfg_mode, "attention": attention}
    return _result(latent, sampled, {**model.attachments.get(ATTACHMENT, {}), **settings})


def _guider(
    model: ModelPatcher, positive: list, negative: list, cfg: float, shift: float, cfg_mode: str
) -> tuple[comfy.samplers.CFGGuider, str]:
    """The host's guider for these settings, and the name of the attention that will run."""
    guider = comfy.samplers.CFGGuider(_with_shift(model, shift))
    guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    transformer_options, attention = steady_attention(model.model_options["transformer_options"])
    guider.model_options = {
        **guider.model_options,
        "transformer_options": transformer_options,
        "sampler_calc_cond_batch_function": cond_batch_function(cfg_mode),
    }
    return guider, attention


def _result(latent: dict, sampled: torch.Tensor, record: dict) -> dict:
    """`latent` with its samples replaced, as the stock KSampler returns it, and the record of the run."""
    management = comfy.model_management
    samples = sampled.to(device=management.intermediate_device(), dtype=management.intermediate_dtype())
    kept = {key: value for key, value in latent.items() if not key.startswith("downscale_ratio")}
    return {**kept, "samples": samples, ATTACHMENT: record}


class FlowSampler(comfy.samplers.Sampler):
    """One of our solvers on one of our schedules, as the host's SAMPLER."""

    def __init__(self, schedule: Schedule, solver: Callable[..., torch.Tensor]):
        self.schedule = schedule
        self.solver = solver

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
        """Called by the host's guider; `noise` is where the run starts, as in the official code."""
        denoiser = comfy.samplers.KSamplerX0Inpaint(model_wrap, sigmas)  # keeps masked parts of the latent as they are
        denoiser.latent_image, denoiser.noise = latent_image, noise
        steps = len(self.schedule)
        evaluations = itertools.count(1)  # both solvers evaluate the model once per step

        def velocity(x: torch.Tensor, timestep: float) -> torch.Tensor:
            sigma = max(timestep, MIN_TIMESTEP) / TRAIN_TIMESTEPS
            sigma_batch = x.new_full((x.shape[0],), sigma)
            denoised = denoiser(x, sigma_batch, denoise_mask=denoise_mask, **extra_args)
            _check_finite(denoised, next(evaluations), steps)
            return (x - denoised) / sigma

        with tqdm(total=steps, disable=disable_pbar) as bar:

            def on_step(step: int, x: torch.Tensor, denoised: torch.Tensor) -> None:
                bar.update()
                if callback is not None:
                    callback(step, denoised, x, steps)

            sampled = self.solver(velocity, noise, self.schedule, on_step)
        if denoise_mask is None:
            return sampled
        return sampled * denoise_mask + latent_image * (1 - denoise_mask)


def _check_choices(solver: str, cfg_mode: str) -> None:
    for name, value, allowed in (("solver", solver, SOLVERS), ("cfg mode", cfg_mode, CFG_MODES)):
        if value not in allowed:
            raise ValueError(f"{name}: got {value!r}; {' or '.join(allowed)} is allowed")


def _check_latent(model: ModelPatcher, samples: torch.Tensor) -> None:
    if samples.is_nested or samples.ndim != 5:
        shape = "a nested tensor" if samples.is_nested else f"shape {tuple(samples.shape)}"
        raise ValueError(
            f"latent: got {shape}; a video latent (batch, channels, frames, height, width) is needed; "
            "make it with 'Wan GGUF Empty Video Latent'"
        )
    channels, wanted = samples.shape[1], model.get_model_object("latent_format").latent_channels
    if channels != wanted:
        remedy = f"connect {KNOWN_VAES[wanted][1]}" if wanted in KNOWN_VAES else "connect the VAE of this model"
        raise ValueError(
            f"latent has {describe_channels(channels)}, the model connected samples {describe_channels(wanted)}; "
            f"{remedy} to the node that makes the latent"
        )


def _check_text(model: ModelPatcher, **conditionings: list) -> None:
    wanted = getattr(model.model.diffusion_model, "text_dim", None)
    for name, conditioning in conditionings.items():
        widths = {values.shape[-1] for values, _ in conditioning}
        if wanted is not None and widths - {wanted}:
            raise ValueError(
                f"{name}: the encoded prompt is {max(widths - {wanted})} wide, the model connected takes {wanted}; "
                "load the text encoder that belongs to the model"
            )


def _with_shift(model: ModelPatcher, shift: float) -> ModelPatcher:
    """A clone whose percent-to-sigma map has our shift, so that conditioning for a part of the run hits that part."""
    sampling = model.get_model_object("model_sampling")
    flow = comfy.model_sampling.ModelSamplingDiscreteFlow, comfy.model_sampling.CONST
    if not all(isinstance(sampling, kind) for kind in flow):
        raise ValueError(
            f"model: the model connected ({type(model.model).__name__}) is not a flow model; connect a Wan model"
        )
    shifted = type(sampling)(model.model.model_config)
    shifted.set_parameters(shift=shift, multiplier=sampling.multiplier)
    clone = model.clone()
    clone.add_object_patch("model_sampling", shifted)
    return clone


def _check_finite(denoised: torch.Tensor, step: int, steps: int) -> None:
    if not torch.isfinite(denoised).all():
        raise RuntimeError(
            f"sampling step {step} of {steps}: the model gave NaN or infinite values; load it with dtype bf16 or fp32, "
            "and check LoRA strengths and cfg"
        )

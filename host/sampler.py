"""Our solvers inside the host's guider: LATENT in, LATENT out, with one model or with the two experts of A14B."""

import contextlib
import logging
from dataclasses import replace

import comfy.model_management
import comfy.samplers
import comfy.utils
import latent_preview
import torch
from comfy.model_patcher import ModelPatcher

from ..sampling.experts import AUTO_BOUNDARY, Split, resolve_boundary, split_steps
from ..sampling.guidance import SAME_CFG, resolve_cfg_low_noise, validate_cfg
from ..sampling.noise import seed_noise
from ..sampling.presets import CUSTOM, PRESETS, RunSettings, preset_settings
from ..sampling.schedules import SCHEDULES
from ..sampling.solvers import SOLVERS
from .attention import steady_attention
from .cfg_batching import CFG_MODES, cond_batch_function
from .experts import Expert, check_pair, hand_over, read_ahead, takes_image, transformer_config, with_steps
from .flow_sampler import FlowRun, FlowSampler
from .image_conditioning import check_start_image_fits
from .models import ATTACHMENT
from .sampler_checks import check_choice, check_latent, check_text, with_shift
from .watch import check_final

HIGH_NOISE, LOW_NOISE = "high_noise", "low_noise"


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
    low_noise_model: ModelPatcher | None = None,
    preset: str = CUSTOM,
    cfg_low_noise: float = SAME_CFG,
    boundary: float = AUTO_BOUNDARY,
) -> dict:
    """Noise of `seed` in the shape of `latent` -> sampled latent, full denoise. Other keys of `latent` are kept.

    `positive` and `negative` are CONDITIONING; at cfg 1.0 the negative one is not evaluated. With `low_noise_model` the
    steps below `boundary` (0: the model's own) are its, at `cfg_low_noise` (0: as cfg). A preset other than "custom"
    replaces steps, cfg, shift, solver, cfg_low_noise and boundary. The key "wan_gguf" of the result records the
    settings. Raises ValueError before anything is loaded when inputs do not fit, RuntimeError when the model gives NaN.
    """
    check_choice("solver", solver, SOLVERS)
    check_choice("cfg mode", cfg_mode, CFG_MODES)
    check_choice("preset", preset, PRESETS)
    samples = latent["samples"]
    models = [model] if low_noise_model is None else [model, low_noise_model]
    check_latent(model, samples)
    if low_noise_model is not None:
        check_pair(model, low_noise_model)
    for one in models:
        check_text(one, positive=positive, negative=negative)
        check_start_image_fits(one, samples, positive=positive, negative=negative)
    settings = _resolved(RunSettings(steps, cfg, shift, solver, cfg_low_noise, boundary), preset, models, samples)
    schedule = SCHEDULES[settings.solver](settings.steps, settings.shift)
    split = None if low_noise_model is None else split_steps(schedule, settings.boundary)
    experts = _experts(models, positive, negative, settings, split, cfg_mode)
    noise = seed_noise(samples.shape, seed)
    record = {**_record(experts, settings, split), "seed": seed, "cfg_mode": cfg_mode, "preset": preset}
    logging.info("%s", describe_run(record))
    sampled = _run(with_steps(experts), FlowRun(SOLVERS[settings.solver], schedule), noise, latent, seed)
    if "noise_mask" not in latent:  # a mask may leave nothing to sample
        check_final(sampled, models[-1])
    return _result(latent, sampled, record)


def describe_run(record: dict) -> str:
    """The record of a run in words: the settings, and which expert takes which steps."""
    settings = [f"{name} {record[name]:g}" for name in ("cfg", "cfg_low_noise", "shift") if name in record]
    lines = [f"{record['preset']}: {record['steps']} steps, {', '.join(settings)}, {record['solver']}"]
    return "\n".join(lines + ([record["split"]] if "split" in record else []))


def _resolved(settings: RunSettings, preset: str, models: list[ModelPatcher], samples: torch.Tensor) -> RunSettings:
    """What will run: the preset's values if there is one, and for two experts numbers in place of 0."""
    if preset != CUSTOM:
        stride = models[0].get_model_object("latent_format").spacial_downscale_ratio
        pixels = samples.shape[-2] * samples.shape[-1] * stride**2
        settings, name = preset_settings(preset, transformer_config(models[0]), len(models), pixels)
        logging.info("preset '%s' for %s", preset, name)
    cfg = validate_cfg(settings.cfg)
    if len(models) == 1:
        return replace(settings, cfg=cfg)
    return replace(
        settings,
        cfg=cfg,
        cfg_low_noise=resolve_cfg_low_noise(settings.cfg_low_noise, cfg),
        boundary=resolve_boundary(settings.boundary, takes_image(models[0])),
    )


def _experts(
    models: list[ModelPatcher],
    positive: list,
    negative: list,
    settings: RunSettings,
    split: Split | None,
    cfg_mode: str,
) -> list[Expert]:
    """One expert per model in the order they run, those without steps included."""
    names, scales, stops = [None], [settings.cfg], [settings.steps]
    if split is not None:
        names, scales = [HIGH_NOISE, LOW_NOISE], [settings.cfg, settings.cfg_low_noise]
        stops = [split.high, settings.steps]
    experts = []
    for name, model, scale, stop in zip(names, models, scales, stops, strict=True):
        guider, attention = _guider(model, positive, negative, scale, settings.shift, cfg_mode)
        experts.append(Expert(name, model, guider, attention, stop))
    return experts


def _guider(
    model: ModelPatcher, positive: list, negative: list, cfg: float, shift: float, cfg_mode: str
) -> tuple[comfy.samplers.CFGGuider, str]:
    """The host's guider for these settings, and the name of the attention that will run."""
    guider = comfy.samplers.CFGGuider(with_shift(model, shift))
    guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    transformer_options, attention = steady_attention(model.model_options["transformer_options"])
    guider.model_options = {
        **guider.model_options,
        "transformer_options": transformer_options,
        "sampler_calc_cond_batch_function": cond_batch_function(cfg_mode),
    }
    return guider, attention


def _run(experts: list[Expert], run: FlowRun, noise: torch.Tensor, latent: dict, seed: int) -> torch.Tensor:
    """All steps, each expert's part in its guider; the first leaves its device before the next one is loaded."""
    callback = latent_preview.prepare_callback(experts[0].model, len(run.schedule))
    with contextlib.ExitStack() as cleanup:
        for expert, following in zip(experts, [*experts[1:], None], strict=True):
            reading = None if following is None else read_ahead(expert.patcher, following.patcher)
            if reading is not None:
                cleanup.callback(reading.stop)
            sampled = expert.guider.sample(
                noise,
                latent["samples"],
                FlowSampler(run, expert.stop, expert.name, None if reading is None else reading.start),
                run.schedule.sigmas.float(),
                denoise_mask=latent.get("noise_mask"),
                callback=callback,
                disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
                seed=seed,
            )
            if following is not None:
                hand_over(expert.patcher, following.patcher, noise.shape)
    return sampled


def _record(experts: list[Expert], settings: RunSettings, split: Split | None) -> dict:
    """The settings of the models and of the run; those of the low-noise expert begin with low_noise_."""
    first = experts[0]
    record = {**first.model.attachments.get(ATTACHMENT, {}), "attention": first.attention}
    record |= {"steps": settings.steps, "cfg": settings.cfg, "shift": settings.shift, "solver": settings.solver}
    if split is None:
        return record
    low = {**experts[1].model.attachments.get(ATTACHMENT, {}), "attention": experts[1].attention}
    record |= {f"{LOW_NOISE}_{key}": value for key, value in low.items()}
    return record | {"cfg_low_noise": settings.cfg_low_noise, "boundary": split.boundary, "split": str(split)}


def _result(latent: dict, sampled: torch.Tensor, record: dict) -> dict:
    """`latent` with its samples replaced, as the stock KSampler returns it, and the record of the run."""
    management = comfy.model_management
    samples = sampled.to(device=management.intermediate_device(), dtype=management.intermediate_dtype())
    kept = {key: value for key, value in latent.items() if not key.startswith("downscale_ratio")}
    return {**kept, "samples": samples, ATTACHMENT: record}

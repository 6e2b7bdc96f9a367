"""Our solvers inside the host's guider: LATENT in, LATENT out, with one model or with the two experts of A14B."""

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import comfy.samplers
import torch
from comfy.model_patcher import ModelPatcher

from ..sampling.experts import AUTO_BOUNDARY, Split, resolve_boundary, split_steps
from ..sampling.guidance import SAME_CFG, resolve_cfg_low_noise, validate_cfg
from ..sampling.noise import validate_seed
from ..sampling.presets import CUSTOM, PRESETS, RunSettings, preset_settings
from ..sampling.schedules import SCHEDULES
from ..sampling.solvers import SOLVERS
from .attention import steady_attention
from .cfg_batching import CFG_MODES, cond_batch_function
from .experts import Expert, check_pair, takes_image, transformer_config, with_steps
from .flow_sampler import FlowRun
from .image_conditioning import check_start_image_fits
from .models import ATTACHMENT
from .sampler_checks import check_choice, check_latent, check_text, with_shift
from .sampler_turns import Row, run_rows
from .unfinished_rows import NOTHING_KNOWN, VideoPlan

HIGH_NOISE, LOW_NOISE = "high_noise", "low_noise"


def sample_latent(model: ModelPatcher, positive: list, negative: list, latent: dict, **settings: Any) -> dict:
    """Noise of a seed in the shape of `latent` -> sampled latent, full denoise. Other keys of `latent` are kept.

    `positive` and `negative` are CONDITIONING; at cfg 1.0 the negative one is not evaluated. The settings are those of
    `sample_rows`, for which this is a list of one.
    """
    (sampled,) = sample_rows(
        [{"model": model, "positive": positive, "negative": negative, "latent": latent, **settings}]
    )
    return sampled


def sample_rows(
    rows: Sequence[Mapping[str, Any]], node_id: str | None = None, plan: VideoPlan = NOTHING_KNOWN
) -> list[dict]:
    """The sampled latent of each row, as if it were alone; every model is loaded once.

    A row has `model`, `positive`, `negative`, `latent`, `seed`, `steps`, `cfg`, `shift`, `solver`, `cfg_mode`, and may
    have `low_noise_model`, `preset`, `cfg_low_noise`, `boundary`: with `low_noise_model` the steps below `boundary` (0:
    the model's own) are its, at `cfg_low_noise` (0: as cfg). A preset other than "custom" replaces steps, cfg, shift,
    solver, cfg_low_noise and boundary. The key "wan_gguf" of a result records the settings. Progress is shown in the
    node `node_id`. Raises ValueError before anything is loaded when the inputs of a row do not fit, RuntimeError when a
    model gives NaN. If a list stops, its finished rows are saved; `plan` tells what is known of their videos.
    """
    shifted: dict[tuple[int, float], ModelPatcher] = {}
    ready = []
    for number, row in enumerate(rows, start=1):
        with _naming_row(number, len(rows)):
            ready.append(_prepared(shifted, **row))
    for number, row in enumerate(ready, start=1):
        logging.info("%s%s", f"row {number} of {len(ready)}: " if len(ready) > 1 else "", describe_run(row.record))
    return run_rows(ready, node_id, plan)


@contextlib.contextmanager
def _naming_row(number: int, n_rows: int) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        if n_rows == 1:
            raise
        raise ValueError(f"row {number} of {n_rows}: {error}") from error


def _prepared(
    shifted: dict[tuple[int, float], ModelPatcher],
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
) -> Row:
    """A row, checked. `shifted` holds the models at their shift, so that rows share them."""
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
    for one in models:
        if (id(one), settings.shift) not in shifted:
            shifted[id(one), settings.shift] = with_shift(one, settings.shift)
    guided = [(one, shifted[id(one), settings.shift]) for one in models]
    experts = _experts(guided, positive, negative, settings, split, cfg_mode)
    record = _record(experts, settings, split) | {"seed": validate_seed(seed), "cfg_mode": cfg_mode, "preset": preset}
    return Row(with_steps(experts), FlowRun(SOLVERS[settings.solver], schedule), latent, record["seed"], record)


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
    models: list[tuple[ModelPatcher, ModelPatcher]],
    positive: list,
    negative: list,
    settings: RunSettings,
    split: Split | None,
    cfg_mode: str,
) -> list[Expert]:
    """One expert per (model, the same at its shift) in the order they run, those without steps included."""
    names, scales, stops = [None], [settings.cfg], [settings.steps]
    if split is not None:
        names, scales = [HIGH_NOISE, LOW_NOISE], [settings.cfg, settings.cfg_low_noise]
        stops = [split.high, settings.steps]
    experts = []
    for name, (model, shifted), scale, stop in zip(names, models, scales, stops, strict=True):
        guider, attention = _guider(shifted, positive, negative, scale, cfg_mode)
        experts.append(Expert(name, model, guider, attention, stop))
    return experts


def _guider(
    model: ModelPatcher, positive: list, negative: list, cfg: float, cfg_mode: str
) -> tuple[comfy.samplers.CFGGuider, str]:
    """The host's guider for these settings, and the name of the attention that will run."""
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    transformer_options, attention = steady_attention(model.model_options["transformer_options"])
    guider.model_options = {
        **guider.model_options,
        "transformer_options": transformer_options,
        "sampler_calc_cond_batch_function": cond_batch_function(cfg_mode),
    }
    return guider, attention


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

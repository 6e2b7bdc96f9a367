"""Runs what `quality.py` was asked for: files, their videos, the differences from the F16 version's, and statistics."""

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from judge import judge
from wan_gguf.benchmarks import machine, quality_weights
from wan_gguf.benchmarks.quality_files import REFERENCE, converted, describe, real_bytes
from wan_gguf.benchmarks.quality_metrics import gmsd, psnr_db, relative_error, ssim
from wan_gguf.benchmarks.quality_prompts import Batch, batches, mentions_background
from wan_gguf.benchmarks.quality_statistics import difference, mean_of, share_of
from wan_gguf.benchmarks.quality_videos import Studio
from wan_gguf.benchmarks.results import Results, say

BASELINE = "F16"
MEASURES = ("psnr_db", "ssim", "gmsd", "latent_error")
GATED = ("color", "direction", "shape")
Videos = list[dict[str, np.ndarray]]


def run(options: argparse.Namespace) -> Results:
    """Plain numbers, ready for JSON."""
    torch.set_num_threads(options.threads)
    results: Results = {"machine": machine.describe(), "prompts": options.prompts}
    if "videos" in options.parts:
        results |= _videos(options)
    if "weights" in options.parts:
        results["weights"] = quality_weights.part(options.state / "weights")
    return results


def _videos(options: argparse.Namespace) -> Results:
    """Every model's record, F16 last, and the differences between neighbours in the order of their PSNR."""
    asked = batches(options.prompts)
    studio = Studio(options.state / "videos", options.steps)
    files = {name: converted(name, options.state / "files") for name in options.types}
    files |= _named(options.files)
    described = {name: describe(path) for name, path in {**files, BASELINE: REFERENCE}.items()}
    videos = studio.videos({BASELINE: REFERENCE, **files}, asked)
    say("comparing")
    models = {name: described[name] | compared(videos[name], videos[BASELINE], asked) for name in [*files, BASELINE]}
    for name in [*options.types, BASELINE]:
        models[name]["real_bytes"] = real_bytes(name)
    return {"settings": studio.settings, "models": models, "neighbours": neighbours(models)}


def _named(files: list[Path]) -> dict[str, Path]:
    """By their names, or by their paths where names are equal."""
    names = [path.name for path in files]
    return {path.name if names.count(path.name) == 1 else str(path): path for path in files}


def compared(videos: Videos, baseline: Videos, asked: list[Batch]) -> Results:
    """Means over the prompts of how far a model's videos are from the baseline's, and how many do what is asked."""
    each: dict[str, list[float]] = {measure: [] for measure in MEASURES}
    identical, followed, background = 0, [], []
    for made, wanted, batch in zip(videos, baseline, asked, strict=True):
        for i, (combination, prompt) in enumerate(zip(batch.wanted, batch.prompts, strict=True)):
            frames, reference = made["frames"][i], wanted["frames"][i]
            identical += bool((frames == reference).all())
            each["psnr_db"].append(psnr_db(frames, reference))
            each["ssim"].append(ssim(frames, reference))
            each["gmsd"].append(gmsd(frames, reference))
            each["latent_error"].append(relative_error(made["latents"][i], wanted["latents"][i]))
            seen = judge(frames.astype(np.float32) / 255)
            followed.append(all(getattr(seen, name) == getattr(combination, name) for name in GATED))
            if mentions_background(prompt):
                background.append(seen.background == combination.background)
    found: Results = {measure: mean_of(values) for measure, values in each.items()}
    found |= {"identical": identical, "followed": share_of(followed), "background": share_of(background)}
    return found | {"per_prompt": each}


def neighbours(models: dict[str, Results]) -> list[Results]:
    """Each model beside the next better one by PSNR: is the difference more than chance?"""
    order = sorted((name for name in models if name != BASELINE), key=lambda name: models[name]["psnr_db"]["mean"])
    return [
        {"better": better, "worse": worse}
        | {m: difference(*(models[name]["per_prompt"][m] for name in (better, worse))) for m in MEASURES}
        for worse, better in pairwise(order)
    ]

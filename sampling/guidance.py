"""Classifier-free guidance: from the negative prompt's prediction towards the positive one's, and beyond.

Source: Ho and Salimans 2022, arXiv 2207.12598; the scale counts as in Wan2.2's wan/text2video.py (1.0 = no guidance).
"""

import torch

MIN_CFG, MAX_CFG = 1.0, 15.0
SAME_CFG = 0.0  # for the low-noise expert: the scale of the high-noise one


def validate_cfg(scale: float, name: str = "cfg") -> float:
    """Return `scale` as a float in 1.0 to 15.0. Raises ValueError, also for nan."""
    value = float(scale)
    if not MIN_CFG <= value <= MAX_CFG:
        raise ValueError(
            f"{name} must be from {MIN_CFG} to {MAX_CFG}, got {scale}; 1.0 switches the negative prompt off"
        )
    return value


def resolve_cfg_low_noise(scale: float, cfg: float) -> float:
    """`scale`, checked, or `cfg` in place of 0."""
    return cfg if scale == SAME_CFG else validate_cfg(scale, "cfg_low_noise")


def needs_uncond(scale: float) -> bool:
    """Whether the negative prompt has to be evaluated at all: at exactly 1.0 it cancels out."""
    return scale != 1.0


def cfg(cond: torch.Tensor, uncond: torch.Tensor | None, scale: float) -> torch.Tensor:
    """Two predictions of one shape -> guided prediction, float32 (float64 stays). `uncond` is not read at scale 1.0."""
    cond = cond.to(torch.promote_types(cond.dtype, torch.float32))
    if not needs_uncond(scale):
        return cond
    if uncond is None:
        raise ValueError(f"cfg {scale} needs the prediction for the negative prompt; without one use cfg 1.0")
    uncond = uncond.to(cond)
    return uncond + scale * (cond - uncond)

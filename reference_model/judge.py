"""Reads the four attributes back from a clip's pixels; the metric of the reference model.

Background: the median colour of the picture's border. Shape mask: pixels far from that colour. Colour: the nearest of
the palette to the mask's inner median. Direction: how the mask's centroid moves from the first three frames to the last
three. Shape: the template of equal area and centroid that overlaps the mask most. A value that is not clear is None.
"""

from dataclasses import dataclass

import numpy as np

from world import BACKGROUNDS, COLORS, DIRECTIONS, SHAPES, coverage

MASK_THRESHOLD = 0.22  # distance in RGB from the background
MIN_AREA_PX, MIN_TRAVEL_PX, MIN_OVERLAP = 120, 6.0, 0.6


@dataclass(frozen=True)
class Verdict:
    """What the pixels show; None where they show nothing clear."""

    shape: str | None
    color: str | None
    direction: str | None
    background: str | None
    overlap: float


def judge(frames: np.ndarray) -> Verdict:
    """(T, 64, 64, 3) floats in 0..1 -> Verdict."""
    border = np.concatenate([frames[:, :3].reshape(-1, 3), frames[:, -3:].reshape(-1, 3)])
    ground = np.median(border, axis=0)
    background = _nearest(ground, BACKGROUNDS)
    distance = np.linalg.norm(frames - ground, axis=-1)
    masks = distance > MASK_THRESHOLD
    if np.median(masks.sum((1, 2))) < MIN_AREA_PX:
        return Verdict(None, None, None, background, 0.0)
    shape, overlap = _shape(masks)
    inner = distance > 0.6 * np.quantile(distance[masks], 0.9)
    return Verdict(shape, _nearest(np.median(frames[inner], axis=0), COLORS), _direction(masks), background, overlap)


def _nearest(color: np.ndarray, palette: dict[str, tuple[float, float, float]]) -> str:
    return min(palette, key=lambda name: float(np.linalg.norm(color - np.array(palette[name]))))


def _centroid(mask: np.ndarray) -> np.ndarray:
    ys, xs = np.nonzero(mask)
    return np.array([xs.mean(), ys.mean()]) + 0.5 if len(xs) else np.full(2, np.nan)


def _direction(masks: np.ndarray) -> str | None:
    first = np.nanmean([_centroid(m) for m in masks[:3]], axis=0)
    last = np.nanmean([_centroid(m) for m in masks[-3:]], axis=0)
    move = last - first
    if not np.isfinite(move).all() or np.linalg.norm(move) < MIN_TRAVEL_PX:
        return None
    return max(DIRECTIONS, key=lambda name: float(move @ np.array(DIRECTIONS[name])))


def _shape(masks: np.ndarray) -> tuple[str | None, float]:
    scores = dict.fromkeys(SHAPES, 0.0)
    for mask in masks[::4]:
        if not mask.any():
            continue
        center, area = _centroid(mask), float(mask.sum())
        for shape in SHAPES:
            template = coverage(shape, center[:1], center[1:], area)[0] > 0.5
            scores[shape] += (mask & template).sum() / (mask | template).sum() / len(masks[::4])
    best = max(scores, key=lambda shape: scores[shape])
    return (best if scores[best] >= MIN_OVERLAP else None), scores[best]

"""The reference model's world: short clips of one flat shape moving over a flat background.

A clip is 17 frames of 64x64 RGB. Four attributes describe it; everything else (size, the path's offset and length) is
jitter. Every fifth combination of attributes is held out: no stage of the training ever sees it, as text or as pixels.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np

FRAMES, SIZE_PX = 17, 64
SHAPES = ("circle", "square", "triangle")
COLORS = {
    "red": (0.90, 0.10, 0.10),
    "green": (0.10, 0.75, 0.15),
    "blue": (0.12, 0.25, 0.95),
    "yellow": (0.95, 0.88, 0.10),
    "purple": (0.60, 0.15, 0.80),
    "white": (0.97, 0.97, 0.97),
}
DIRECTIONS = {"left": (-1.0, 0.0), "right": (1.0, 0.0), "up": (0.0, -1.0), "down": (0.0, 1.0)}
BACKGROUNDS = {"black": (0.04, 0.04, 0.04), "gray": (0.45, 0.45, 0.45)}
AREA_PX = (450.0, 600.0)  # of the shape, in square pixels
TRAVEL_PX = (20.0, 26.0)  # from the first frame to the last
OFFSET_PX = 4.0  # of the path's middle from the picture's, each axis


@dataclass(frozen=True)
class Combination:
    """One value of each attribute."""

    shape: str
    color: str
    direction: str
    background: str


COMBINATIONS = tuple(Combination(*c) for c in product(SHAPES, COLORS, DIRECTIONS, BACKGROUNDS))


def is_held_out(combination: Combination) -> bool:
    """A fifth of all combinations, spread evenly over the values of every attribute (a linear code modulo 5)."""
    s = SHAPES.index(combination.shape)
    c = tuple(COLORS).index(combination.color)
    d = tuple(DIRECTIONS).index(combination.direction)
    b = tuple(BACKGROUNDS).index(combination.background)
    return (2 * s + c + 3 * d + 4 * b) % 5 == 0


TRAINING = tuple(c for c in COMBINATIONS if not is_held_out(c))
HELD_OUT = tuple(c for c in COMBINATIONS if is_held_out(c))


def signed_distance(shape: str, dx: np.ndarray, dy: np.ndarray, area_px: float) -> np.ndarray:
    """Distance in pixels to the outline of a shape of the given area centred at 0 (negative inside); y points down."""
    if shape == "circle":
        return np.hypot(dx, dy) - np.sqrt(area_px / np.pi)
    if shape == "square":
        return np.maximum(np.abs(dx), np.abs(dy)) - np.sqrt(area_px) / 2
    inradius = np.sqrt(area_px / (3 * np.sqrt(3)))  # equilateral, pointing up, centroid at 0
    slanted = np.abs(dx) * np.sqrt(3) / 2 - dy / 2
    return np.maximum(slanted, dy) - inradius


def coverage(shape: str, cx: np.ndarray, cy: np.ndarray, area_px: float) -> np.ndarray:
    """Anti-aliased coverage in 0..1 of the shape centred at (cx, cy), each (n,) -> (n, 64, 64)."""
    axis = np.arange(SIZE_PX) + 0.5
    dx = axis[None, None, :] - cx[:, None, None]
    dy = axis[None, :, None] - cy[:, None, None]
    return np.clip(0.5 - signed_distance(shape, dx, dy, area_px), 0.0, 1.0)


def draw_clip(combination: Combination, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(17, 64, 64, 3) float32 in 0..1, and the shape's coverage (17, 64, 64)."""
    area = rng.uniform(*AREA_PX)
    travel = rng.uniform(*TRAVEL_PX)
    ux, uy = DIRECTIONS[combination.direction]
    along = np.linspace(-travel / 2, travel / 2, FRAMES)
    cx = SIZE_PX / 2 + rng.uniform(-OFFSET_PX, OFFSET_PX) * (ux == 0) + ux * along
    cy = SIZE_PX / 2 + rng.uniform(-OFFSET_PX, OFFSET_PX) * (uy == 0) + uy * along
    alpha = coverage(combination.shape, cx, cy, area)[..., None]
    color, background = np.array(COLORS[combination.color]), np.array(BACKGROUNDS[combination.background])
    frames = alpha * color + (1 - alpha) * background
    return frames.astype(np.float32), alpha[..., 0].astype(np.float32)

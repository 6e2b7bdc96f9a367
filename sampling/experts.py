"""Two experts in one run: which steps the high-noise model takes, and which the low-noise model.

A step is the high-noise expert's while the time told to the model is at or above 1000 * boundary. Source: Wan2.2's
wan/text2video.py, _prepare_model_for_timestep. With the official settings that is 26 + 14 steps for T2V-A14B (40 steps,
shift 12, boundary 0.875) and 15 + 25 for I2V-A14B (40 steps, shift 5, boundary 0.900).
"""

from dataclasses import dataclass

from .schedules import TRAIN_TIMESTEPS, Schedule

TEXT_BOUNDARY, IMAGE_BOUNDARY = 0.875, 0.900  # wan/configs/wan_t2v_A14B.py, wan_i2v_A14B.py
AUTO_BOUNDARY = 0.0  # the one of the model


@dataclass(frozen=True)
class Split:
    """The first `high` steps are the high-noise expert's, the `low` ones after them the low-noise expert's."""

    high: int
    low: int
    boundary: float

    def __str__(self) -> str:
        return f"{_steps(self.high)} high_noise + {_steps(self.low)} low_noise (boundary {self.boundary:g})"


def validate_boundary(boundary: float) -> float:
    """Return `boundary` as a float in 0.0 (the model's own) to 1.0. Raises ValueError, also for nan."""
    value = float(boundary)
    if not 0.0 <= value <= 1.0:
        raise ValueError(
            f"boundary must be from 0.0 to 1.0, got {boundary}; Wan2.2 uses {TEXT_BOUNDARY} for text to video and "
            f"{IMAGE_BOUNDARY} for image to video, and 0 takes the one of the model"
        )
    return value


def resolve_boundary(boundary: float, takes_image: bool) -> float:
    """`boundary`, or in place of 0 the official one for a model that does or does not take an image."""
    own = IMAGE_BOUNDARY if takes_image else TEXT_BOUNDARY
    return own if boundary == AUTO_BOUNDARY else validate_boundary(boundary)


def split_steps(schedule: Schedule, boundary: float) -> Split:
    """Times fall, so the high-noise steps come first; either side may have none."""
    high = int((schedule.timesteps >= boundary * TRAIN_TIMESTEPS).sum())
    return Split(high, len(schedule) - high, boundary)


def _steps(count: int) -> str:
    return "1 step" if count == 1 else f"{count} steps"

"""Sampling settings by name, for each of the known models.

official: wan/configs of Wan2.2 (its tuple sample_guide_scale is (low noise, high noise)) and Wan2.1's generate.py. The
shift of 3 for small videos is generate.py's for image to video with Wan2.1 and the advice in Wan2.2's
wan/textimage2video.py for TI2V-5B; the other models have one shift for all sizes.
4-step: what lightx2v's LoRAs are made for, LightX2V's configs/distill: 4 steps, no guidance, shift 5, for two experts 2
steps each.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from .experts import AUTO_BOUNDARY, IMAGE_BOUNDARY, TEXT_BOUNDARY
from .guidance import SAME_CFG

CUSTOM = "custom"
OFFICIAL, OFFICIAL_720P, OFFICIAL_480P = "official", "official 720p", "official 480p"
FOUR_STEP = "4-step (lightx2v LoRA)"
PRESETS = (CUSTOM, OFFICIAL, OFFICIAL_720P, OFFICIAL_480P, FOUR_STEP)

SIZE_720P, SIZE_480P = 1280 * 720, 832 * 480  # px


@dataclass(frozen=True)
class RunSettings:
    """What a preset sets. `cfg_low_noise` and `boundary` count for two experts only; 0 stands for cfg, for auto."""

    steps: int
    cfg: float
    shift: float
    solver: str
    cfg_low_noise: float = SAME_CFG
    boundary: float = AUTO_BOUNDARY


@dataclass(frozen=True)
class Family:
    """A published model, known by its shapes: there are two experts, or one model, or an image branch, or none."""

    name: str
    dim: int
    in_dim: int
    experts: int
    image_branch: bool
    official: RunSettings
    shift_480p: float
    four_step: RunSettings | None = None

    def settings(self, preset: str, pixels: int) -> RunSettings | None:
        """The settings of the preset for a video of so many pixels per frame, None if there are none."""
        if preset == FOUR_STEP:
            return self.four_step
        if preset == OFFICIAL:
            preset = OFFICIAL_480P if _is_480p(pixels) else OFFICIAL_720P
        return self.official if preset == OFFICIAL_720P else replace(self.official, shift=self.shift_480p)


_FOUR_STEPS = RunSettings(4, 1.0, 5.0, "euler")
_T2V_A14B = RunSettings(40, 4.0, 12.0, "unipc", 3.0, TEXT_BOUNDARY)
_I2V_A14B = RunSettings(40, 3.5, 5.0, "unipc", 3.5, IMAGE_BOUNDARY)
FAMILIES = (
    Family("Wan2.2 T2V-A14B", 5120, 16, 2, False, _T2V_A14B, 12.0, replace(_FOUR_STEPS, boundary=TEXT_BOUNDARY)),
    Family("Wan2.2 I2V-A14B", 5120, 36, 2, False, _I2V_A14B, 5.0, replace(_FOUR_STEPS, boundary=IMAGE_BOUNDARY)),
    Family("Wan2.2 TI2V-5B", 3072, 48, 1, False, RunSettings(50, 5.0, 5.0, "unipc"), 3.0),
    Family("Wan2.1 T2V-1.3B", 1536, 16, 1, False, RunSettings(50, 5.0, 5.0, "unipc"), 5.0),
    Family("Wan2.1 T2V-14B", 5120, 16, 1, False, RunSettings(50, 5.0, 5.0, "unipc"), 5.0, _FOUR_STEPS),
    Family("Wan2.1 I2V-14B", 5120, 36, 1, True, RunSettings(40, 5.0, 5.0, "unipc"), 3.0, _FOUR_STEPS),
)


def preset_settings(preset: str, config: Mapping[str, Any], experts: int, pixels: int) -> tuple[RunSettings, str]:
    """(settings, name of the model) of a preset other than custom. Raises ValueError if the model has no such preset.

    `config` has the arguments of the Wan transformer, `experts` counts the models connected, `pixels` is the area of a
    frame: "official" means the one of 720p and 480p that is nearer.
    """
    family = find_family(config, experts)
    if family is None:
        raise ValueError(f"preset {preset!r}: {_unknown(config, experts)}")
    settings = family.settings(preset, pixels)
    if settings is None:
        having = [other.name for other in FAMILIES if other.settings(preset, pixels) is not None]
        raise ValueError(
            f"preset {preset!r}: the model connected is {family.name}, which has none; there is one for "
            f"{', '.join(having)}; choose another preset or {CUSTOM!r}"
        )
    return settings, family.name


def find_family(config: Mapping[str, Any], experts: int) -> Family | None:
    """The published model of these shapes. T2V-14B of Wan2.1 and one expert of T2V-A14B look alike: `experts` tells."""
    if config.get("flf_pos_embed_token_number") is not None:
        return None  # first and last frame: no settings of its own here
    image_branch = config.get("model_type") == "i2v"
    wanted = (config.get("dim"), config.get("in_dim"), experts, image_branch)
    return next((f for f in FAMILIES if (f.dim, f.in_dim, f.experts, f.image_branch) == wanted), None)


def _unknown(config: Mapping[str, Any], experts: int) -> str:
    other = find_family(config, 3 - experts)
    if other is not None and experts == 1:
        return f"{other.name} has two experts; connect the other one to low_noise_model, or choose {CUSTOM!r}"
    if other is not None:
        return f"{other.name} is one model; disconnect low_noise_model, or choose {CUSTOM!r}"
    names = ", ".join(family.name for family in FAMILIES)
    return (
        f"the model connected (dim {config.get('dim')}, in_dim {config.get('in_dim')}) is none of {names}; choose "
        f"{CUSTOM!r} and set the values"
    )


def _is_480p(pixels: int) -> bool:
    """Whether the ratio to 832x480 is smaller than the one to 1280x720."""
    return pixels * pixels <= SIZE_720P * SIZE_480P

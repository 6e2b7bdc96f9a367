"""Presets: the official numbers of each model, which model it is, and refusals that say what to do."""

import pytest

from wan_gguf.sampling.experts import split_steps
from wan_gguf.sampling.guidance import validate_cfg
from wan_gguf.sampling.presets import (
    CUSTOM,
    FAMILIES,
    FOUR_STEP,
    OFFICIAL,
    OFFICIAL_480P,
    OFFICIAL_720P,
    PRESETS,
    RunSettings,
    preset_settings,
)
from wan_gguf.sampling.schedules import SCHEDULES

T2V_A14B = {"dim": 5120, "in_dim": 16, "model_type": "t2v"}
I2V_A14B = {"dim": 5120, "in_dim": 36, "model_type": "t2v"}  # without an image branch the host calls it t2v
TI2V_5B = {"dim": 3072, "in_dim": 48, "model_type": "t2v"}
T2V_1_3B = {"dim": 1536, "in_dim": 16, "model_type": "t2v"}
I2V_14B = {"dim": 5120, "in_dim": 36, "model_type": "i2v"}
PX_720P, PX_480P = 1280 * 720, 832 * 480


@pytest.mark.parametrize(
    ("config", "experts", "preset", "name", "expected"),
    [
        (T2V_A14B, 2, OFFICIAL_720P, "Wan2.2 T2V-A14B", RunSettings(40, 4.0, 12.0, "unipc", 3.0, 0.875)),
        (T2V_A14B, 2, OFFICIAL_480P, "Wan2.2 T2V-A14B", RunSettings(40, 4.0, 12.0, "unipc", 3.0, 0.875)),
        (T2V_A14B, 2, FOUR_STEP, "Wan2.2 T2V-A14B", RunSettings(4, 1.0, 5.0, "euler", 0.0, 0.875)),
        (I2V_A14B, 2, OFFICIAL_720P, "Wan2.2 I2V-A14B", RunSettings(40, 3.5, 5.0, "unipc", 3.5, 0.9)),
        (I2V_A14B, 2, FOUR_STEP, "Wan2.2 I2V-A14B", RunSettings(4, 1.0, 5.0, "euler", 0.0, 0.9)),
        (TI2V_5B, 1, OFFICIAL_720P, "Wan2.2 TI2V-5B", RunSettings(50, 5.0, 5.0, "unipc")),
        (TI2V_5B, 1, OFFICIAL_480P, "Wan2.2 TI2V-5B", RunSettings(50, 5.0, 3.0, "unipc")),
        (T2V_1_3B, 1, OFFICIAL_480P, "Wan2.1 T2V-1.3B", RunSettings(50, 5.0, 5.0, "unipc")),
        (T2V_A14B, 1, OFFICIAL_720P, "Wan2.1 T2V-14B", RunSettings(50, 5.0, 5.0, "unipc")),
        (T2V_A14B, 1, FOUR_STEP, "Wan2.1 T2V-14B", RunSettings(4, 1.0, 5.0, "euler")),
        (I2V_14B, 1, OFFICIAL_720P, "Wan2.1 I2V-14B", RunSettings(40, 5.0, 5.0, "unipc")),
        (I2V_14B, 1, OFFICIAL_480P, "Wan2.1 I2V-14B", RunSettings(40, 5.0, 3.0, "unipc")),
    ],
)
def test_the_published_numbers(config, experts, preset, name, expected):
    assert preset_settings(preset, config, experts, PX_720P) == (expected, name)


@pytest.mark.parametrize(
    ("width", "height", "shift"),
    [(832, 480, 3.0), (480, 832, 3.0), (640, 640, 3.0), (960, 544, 3.0), (1280, 704, 5.0), (1024, 640, 5.0)],
)
def test_official_takes_the_nearer_of_both_sizes(width, height, shift):
    assert preset_settings(OFFICIAL, TI2V_5B, 1, width * height)[0].shift == shift


def test_official_splits_follow_from_the_presets():
    for config, split in ((T2V_A14B, (26, 14)), (I2V_A14B, (15, 25))):
        for preset, expected in ((OFFICIAL, split), (FOUR_STEP, (2, 2))):
            settings, _ = preset_settings(preset, config, 2, PX_480P)
            found = split_steps(SCHEDULES[settings.solver](settings.steps, settings.shift), settings.boundary)
            assert (found.high, found.low) == expected


def test_every_preset_can_run():
    for family in FAMILIES:
        for preset in PRESETS[1:]:
            settings = family.settings(preset, PX_480P)
            if settings is not None:
                validate_cfg(settings.cfg)
                assert len(SCHEDULES[settings.solver](settings.steps, settings.shift)) == settings.steps
                assert (settings.boundary > 0) == (family.experts == 2)


def test_no_two_models_look_alike():
    marks = [(family.dim, family.in_dim, family.experts, family.image_branch) for family in FAMILIES]
    assert len(set(marks)) == len(marks)


def test_custom_comes_first_and_is_no_preset():
    assert PRESETS[0] == CUSTOM == "custom"
    assert all(family.settings(OFFICIAL, PX_720P) is not None for family in FAMILIES)


@pytest.mark.parametrize(
    ("config", "experts", "preset", "message"),
    [
        (TI2V_5B, 1, FOUR_STEP, r"Wan2\.2 TI2V-5B, which has none; there is one for Wan2\.2 T2V-A14B, .*'custom'"),
        (I2V_A14B, 1, OFFICIAL, r"Wan2\.2 I2V-A14B has two experts; connect the other one to low_noise_model"),
        (T2V_1_3B, 2, OFFICIAL, r"Wan2\.1 T2V-1\.3B is one model; disconnect low_noise_model"),
        ({"dim": 192, "in_dim": 16, "model_type": "t2v"}, 1, OFFICIAL, r"\(dim 192, in_dim 16\) is none of Wan2\.2"),
        ({}, 2, OFFICIAL, r"\(dim None, in_dim None\) is none of"),
        ({**I2V_14B, "flf_pos_embed_token_number": 514}, 1, OFFICIAL, "is none of"),
    ],
)
def test_a_preset_the_model_does_not_have_is_refused(config, experts, preset, message):
    with pytest.raises(ValueError, match=message):
        preset_settings(preset, config, experts, PX_720P)

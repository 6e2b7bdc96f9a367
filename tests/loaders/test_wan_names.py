"""What the name of a file says about the expert in it, and what the shapes say about the model."""

import pytest

from wan_gguf.loaders.wan_config import wan_config
from wan_gguf.loaders.wan_names import expert_of, is_single, model_name, twin_name, width_name
from wan_gguf.tests.loaders.models import WAN_MODELS, wan_model_shapes

A14B = {"dim": 5120, "in_dim": 16, "out_dim": 16, "model_type": "t2v"}

EXPERTS = [  # name, expert, the other expert's file
    ("Wan2.2-T2V-A14B-HighNoise-Q4_K_M.gguf", "high", "Wan2.2-T2V-A14B-LowNoise-Q4_K_M.gguf"),
    ("HighNoise/Wan2.2-T2V-A14B-HighNoise-Q8_0.gguf", "high", "Wan2.2-T2V-A14B-LowNoise-Q8_0.gguf"),
    ("wan2.2_i2v_low_noise_14B_Q4_K_S.gguf", "low", "wan2.2_i2v_high_noise_14B_Q4_K_S.gguf"),
    ("wan2.2_t2v_highnoise.gguf", "high", "wan2.2_t2v_lownoise.gguf"),
    ("WAN22_HIGH_Q8.gguf", "high", "WAN22_LOW_Q8.gguf"),
    ("smoothMix_i2vHigh.gguf", "high", "smoothMix_i2vLow.gguf"),
    ("Wan2.2LowNoise.gguf", "low", "Wan2.2HighNoise.gguf"),
    ("low-vram-high-noise.gguf", "high", "low-vram-low-noise.gguf"),
    ("low noise/model.gguf", "low", "Wan2.2-T2V-A14B-HighNoise-*.gguf"),
    ("low/wan_high_noise.gguf", "high", "wan_low_noise.gguf"),
]


@pytest.mark.parametrize(("name", "expert", "twin"), EXPERTS)
def test_the_expert_and_its_twin(name, expert, twin):
    assert expert_of(name) == expert
    assert twin_name(name, A14B, {"high": "low", "low": "high"}[expert]) == twin


@pytest.mark.parametrize(
    "name",
    ["wan.gguf", "slow_motion.gguf", "flow.gguf", "followNoise.gguf", "lowvram.gguf", "low-vram.gguf", "lowVRAM.gguf",
     "Highlights.gguf", "high-res.gguf", "HighRes_fix.gguf", "yellow.gguf", "wan_high_low_merged.gguf", "highway.gguf",
     "high/low.txt/high_and_low.gguf", ""],
)  # fmt: skip
def test_names_that_do_not_tell(name):
    assert expert_of(name) is None


@pytest.mark.parametrize("name", ["wan_high.gguf", "wan.gguf"])
def test_a_twin_is_never_the_file_itself(name):
    assert twin_name(name, A14B, "high") == "Wan2.2-T2V-A14B-HighNoise-*.gguf"
    assert twin_name("wan.gguf", {**A14B, "in_dim": 36}, "low") == "Wan2.2-I2V-A14B-LowNoise-*.gguf"
    assert twin_name("tiny.gguf", {**A14B, "dim": 256}, "low") == "the low-noise file of the same model"


@pytest.mark.parametrize(
    ("model", "name", "single"),
    [
        ("Wan2.2-T2V-A14B", "Wan2.2 T2V-A14B or Wan2.1 T2V-14B", False),
        ("Wan2.2-I2V-A14B", "Wan2.2 I2V-A14B", False),
        ("Wan2.2-TI2V-5B", "Wan2.2 TI2V-5B", True),
        ("Wan2.1-T2V-1.3B", "Wan2.1 T2V-1.3B", True),
        ("Wan2.1-I2V-14B", "Wan2.1 I2V-14B", True),
    ],
)
def test_models_by_their_shapes(model, name, single):
    config = wan_config(wan_model_shapes(model), model)
    assert model in WAN_MODELS
    assert model_name(config) == name
    assert is_single(config, "renamed.gguf") is single


def test_a_model_of_no_published_size():
    assert model_name({**A14B, "dim": 256}) == "a Wan model of width 256 with 16 channels in and 16 out"
    assert (width_name(256), width_name(3072)) == ("width 256", "width 3072 (Wan2.2 TI2V-5B)")


@pytest.mark.parametrize(
    ("name", "single"),
    [
        ("wan2.1-t2v-14b-Q4_K_M.gguf", True),
        ("Wan2_1-T2V-14B.gguf", True),
        ("Wan21_T2V.gguf", True),
        ("Wan2.1/expert_a.gguf", False),  # a folder may hold anything
        ("wan2.1_to_2.2.gguf", False),
        ("wan2.12.gguf", False),
        ("Wan2.2-T2V-A14B.gguf", False),
    ],
)
def test_wan_21_by_its_name(name, single):
    assert is_single(A14B, name) is single

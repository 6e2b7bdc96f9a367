"""Two model files as the experts of one model; `tests/nodes/test_graph_files.py` has the published files."""

from pathlib import Path

import pytest

from wan_gguf.loaders.describe import ModelFile
from wan_gguf.loaders.experts import refuse_experts

CONFIG = {
    "dim": 256, "ffn_dim": 512, "num_layers": 2, "in_dim": 16, "out_dim": 16, "text_dim": 64, "model_type": "t2v",
}  # fmt: skip


def wan(name: str, **changed) -> ModelFile:
    return ModelFile(Path("/models") / name, "wan", "", config={**CONFIG, **changed})


def refusal(high: str, low: str, **changed) -> str | None:
    return refuse_experts(wan(high), high, wan(low, **changed), low)


@pytest.mark.parametrize(("high", "low"), [("a.gguf", "b.gguf"), ("a_high.gguf", "b.gguf"), ("b.gguf", "a_low.gguf")])
def test_models_of_one_shape_are_a_pair(high, low):
    """Small models too, as the reference model's experts are."""
    assert refusal(high, low) is None


@pytest.mark.parametrize(("key", "value"), [("dim", 384), ("num_layers", 3), ("in_dim", 36), ("out_dim", 48),
                                            ("ffn_dim", 640), ("text_dim", 4096)])  # fmt: skip
def test_models_of_different_shapes_are_none(key, value):
    message = refusal("wan_high.gguf", "b.gguf", **{key: value})
    assert "both experts must be of one model: choose wan_low.gguf for low_noise_model" in message


def test_one_file_under_two_names(tmp_path):
    (tmp_path / "high.gguf").touch()
    (tmp_path / "low.gguf").symlink_to(tmp_path / "high.gguf")
    high, low = (ModelFile(tmp_path / name, "wan", "", config=CONFIG) for name in ("high.gguf", "low.gguf"))
    message = refuse_experts(high, "high.gguf", low, "low.gguf")
    assert (
        message
        == "low_noise_model: 'high.gguf' is the file of the input model too; choose low.gguf for low_noise_model"
    )


def test_a_single_model_twice():
    one = wan("x.gguf", dim=3072, in_dim=48, out_dim=48)
    message = refuse_experts(one, "x.gguf", one, "x.gguf")
    assert message.endswith("it is one model for all noise levels: leave low_noise_model unconnected")


@pytest.mark.parametrize(
    ("high", "low", "words"),
    [
        ("a_low.gguf", "a_high.gguf", "choose 'a_high.gguf' for model and 'a_low.gguf' for low_noise_model"),
        ("a_low.gguf", "b_low.gguf", "model: 'a_low.gguf' is a low-noise expert by its name, as 'b_low.gguf' is; "
         "choose b_high.gguf"),
        ("a_high.gguf", "b_high.gguf", "low_noise_model: 'b_high.gguf' is a high-noise expert by its name, as "
         "'a_high.gguf' is; choose a_low.gguf"),
    ],
)  # fmt: skip
def test_names_that_say_otherwise(high, low, words):
    assert words in refusal(high, low)

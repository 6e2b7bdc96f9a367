"""The quality benchmark: its prompts, files and options, and a small run end to end that is stopped and goes on."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from wan_gguf.benchmarks import quality_files, quality_state, quality_weights
from wan_gguf.benchmarks.quality import TYPES
from wan_gguf.convert.ggml_types import FILE_TYPES
from wan_gguf.tests.convert.test_plan import PUBLISHED


@pytest.fixture
def prompts(root, monkeypatch):
    """The module, whose imports want the folder of the reference model on the path."""
    monkeypatch.syspath_prepend(str(root / "reference_model"))
    from wan_gguf.benchmarks import quality_prompts

    return quality_prompts


def test_every_type_that_the_converter_makes_is_measured():
    assert set(TYPES) == set(FILE_TYPES) - {"F16", "F32"}, "what they are compared with, and more exact than that"


def test_half_of_the_prompts_are_chinese_and_none_has_the_noise_of_another(prompts):
    made = prompts.batches(64)
    texts = [prompt for batch in made for prompt in batch.prompts]
    assert len(texts) == 64 and sum(any("\u4e00" <= c <= "\u9fff" for c in text) for text in texts) == 32
    assert len({batch.seed for batch in made}) == len(made)
    assert {c for batch in made for c in batch.wanted} == set(prompts.HELD_OUT), "all that no training saw"


def test_prompts_are_the_same_every_time_and_more_of_them_change_none(prompts):
    assert prompts.batches(64) == prompts.batches(64) == prompts.batches(96)[:8]


@pytest.mark.parametrize("file_type", PUBLISHED)
def test_sizes_of_the_real_models_are_those_of_the_published_files(file_type):
    assert tuple(quality_files.real_bytes(file_type).values()) == PUBLISHED[file_type]


def test_a_converted_file_is_made_once_and_described(tmp_path):
    path = quality_files.converted("Q4_K_M", tmp_path)
    stamp = path.stat().st_mtime_ns
    assert quality_files.converted("Q4_K_M", tmp_path) == path and path.stat().st_mtime_ns == stamp
    found = quality_files.describe(path)
    assert found["matrices"] == {"Q4_K": 42, "Q6_K": 18}, "of 6 blocks: both v and ffn.2 are finer"
    assert 4.5 < found["bits_per_weight"] < 6.5625, "between those two"
    assert found["share_of_f16"] == path.stat().st_size / quality_files.REFERENCE.stat().st_size


def test_another_model_is_refused(root):
    from wan_gguf.loaders.wan import load_wan

    low = load_wan(root / "reference_model" / "files" / "wan_reference_dit_low_noise_q8_0.gguf")
    quality_files.check_is_reference(
        low
    )  # the same shapes: it may be asked how far the second expert is from the first
    del low.tensors["blocks.0.ffn.0.weight"]
    with pytest.raises(ValueError, match="of width 256 with 6 blocks; only versions of"):
        quality_files.check_is_reference(low)


def test_signal_to_noise_of_uniform_rounding():
    """Q8_0 rounds to steps of a block's largest / 127, noise step^2 / 12. Each block: 31 numbers within +-1, and 1."""
    rows = np.random.default_rng(0).uniform(-1, 1, (512, 256)).astype(np.float32)
    rows[:, ::32] = 1.0
    signal = np.square(rows, dtype=np.float64).mean()
    # the number 1 itself is kept up to fp16's rounding of the scale, so 31 of 32 carry the noise
    expected = 10 * np.log10(signal / (31 / 32 / 127**2 / 12))
    found = quality_weights.sqnr_db(iter([rows[:200], rows[200:]]), ("Q8_0", "F32"))
    assert found["Q8_0"] == pytest.approx(expected, abs=0.1)
    assert found["F32"] is None, "nothing is lost"


def test_heavy_tails_have_the_spread_of_the_normal_numbers_and_more_outliers():
    normal, heavy = (
        np.concatenate(list(quality_weights._random_pieces((9000, 4096), d))) for d in quality_weights.DISTRIBUTIONS
    )
    assert normal.shape == heavy.shape == (quality_weights.ROWS, 4096)
    assert normal.std() == pytest.approx(quality_weights.STD, rel=0.01) == heavy.std()
    kurtosis = [np.mean((x / x.std()) ** 4) for x in (normal, heavy)]
    assert kurtosis[0] == pytest.approx(3, abs=0.05) and kurtosis[1] > 5


def test_kept_work_is_done_once_and_never_half(tmp_path):
    calls = []

    def make():
        calls.append(1)
        return {"x": np.arange(len(calls))}

    path = tmp_path / "deeper" / "a.npz"
    first = quality_state.kept_arrays(path, make)
    assert (quality_state.kept_arrays(path, make)["x"] == first["x"]).all() and len(calls) == 1
    other = tmp_path / "b.json"
    with pytest.raises(KeyboardInterrupt), quality_state.replacing(other) as part:
        part.write_text("half of")
        raise KeyboardInterrupt
    assert sorted(p.name for p in tmp_path.iterdir()) == ["deeper"]
    assert quality_state.kept_value(other, lambda: [1.5, None]) == [1.5, None]


def test_a_digest_depends_on_every_part():
    assert quality_state.digest("a", {"b": 1}) == quality_state.digest("a", {"b": 1})
    assert len({quality_state.digest(*parts) for parts in (("a", 1), ("a", 2), ("b", 1), ("a", 1, None))}) == 4


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--types", "Q4_K_M,Q4"], "got 'Q4'; Q2_K, Q3_K_S"),
        (["--prompts", "40"], "got 40; a multiple of 16 is allowed"),
        (["--steps", "0"], "got '0'; a whole number from 1 is allowed"),
        (["--files", "missing.gguf"], "missing.gguf is no file"),
        (["--write", "--types", "Q4_0"], "--write publishes the whole table"),
        (["--write", "--prompts", "32"], "got --prompts 32; at least 64 are published"),
        (["--files", __file__, "--parts", "weights"], "--parts weights: is about types"),
    ],
)
def test_wrong_options_end_before_anything_is_imported(root, tmp_path, options, complaint):
    command = [
        sys.executable,
        "-S",
        str(root / "benchmarks" / "quality.py"),
        *options,
    ]  # -S: no installed package at all
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", timeout=60)
    assert done.returncode == 2
    assert complaint in done.stderr and "Traceback" not in done.stderr


@pytest.fixture
def studio(prompts, tmp_path):
    """Two steps a video, and two prompts."""
    from wan_gguf.benchmarks.quality_videos import Studio

    (batch,) = prompts.batches(16)[:1]
    small = prompts.Batch(batch.language, batch.prompts[:2], batch.wanted[:2], batch.negative, batch.seed)
    return Studio(tmp_path / "videos", steps=2), [small]


def test_videos_of_equal_contents_are_made_once_and_differ_between_types(studio, tmp_path):
    from wan_gguf.benchmarks.quality_suite import compared

    made, asked = studio
    fine = quality_files.converted("Q8_0", tmp_path)
    again = shutil.copy(fine, tmp_path / "the same.gguf")
    coarse = quality_files.converted("Q2_K", tmp_path)
    files = {"F16": quality_files.REFERENCE, "Q8_0": fine, "again": Path(again), "Q2_K": coarse}
    videos = made.videos(files, asked)
    kept = {path: path.stat().st_mtime_ns for path in made.folder.iterdir()}
    assert len(kept) == 3
    assert made.videos(files, asked)["Q8_0"][0]["latents"].tobytes() == videos["Q8_0"][0]["latents"].tobytes()
    assert {path: path.stat().st_mtime_ns for path in made.folder.iterdir()} == kept, "nothing was made anew"
    found = {name: compared(videos[name], videos["F16"], asked) for name in files}
    assert found["Q8_0"] == found["again"] and found["F16"]["identical"] == 2
    errors = [found[name]["latent_error"]["mean"] for name in ("F16", "Q8_0", "Q2_K")]
    assert 0 == errors[0] < 4 * errors[1] < errors[2], "Q2_K's weights are 50 times as wrong"
    assert found["F16"]["ssim"]["mean"] == pytest.approx(1) and found["Q2_K"]["ssim"]["mean"] < 1


@pytest.mark.long
def test_a_file_beside_a_type_and_again_from_what_was_kept(script, tmp_path):
    """Q8_0 by the converter, named as a file, gives what the type gives; the second run makes nothing anew."""
    path = quality_files.converted("Q8_0", tmp_path / "mine")
    options = ("--types", "Q8_0", "--files", path, "--prompts", "16", "--steps", "1", "--parts", "videos", "--json")
    done = script("quality.py", *options, "--state", tmp_path / "state")
    assert done.returncode == 0, done.stderr
    first = json.loads(done.stdout)
    as_type, as_file, f16 = (first["models"][name] for name in ("Q8_0", path.name, "F16"))
    assert as_type["per_prompt"] == as_file["per_prompt"]
    assert f16["identical"] == 16 and f16["latent_error"]["max"] == 0
    assert (first["settings"]["dtype"], first["settings"]["steps"]) == ("fp32", 1)
    again = script("quality.py", *options, "--state", tmp_path / "state")
    assert json.loads(again.stdout) == first and "videos in" not in again.stderr


def test_a_file_of_another_kind_is_one_line(script, root, tmp_path):
    encoder = root / "reference_model" / "files" / "wan_reference_umt5_f16.gguf"
    done = script("quality.py", "--files", encoder, "--state", tmp_path)
    assert done.returncode == 1 and done.stdout == ""
    assert (
        done.stderr.splitlines()[-1].startswith("error: wan_reference_umt5_f16.gguf") and "Traceback" not in done.stderr
    )

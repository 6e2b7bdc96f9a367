"""`convert --calibrate`: which run is recorded, what is refused before it, and the bundled model from end to end."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from wan_gguf.cli import calibration, command_convert, main
from wan_gguf.cli.calibration import Files, kept_file, workflow
from wan_gguf.cli.paths import MODEL_FILES
from wan_gguf.cli.preparation import Prepared
from wan_gguf.cli.workflow import MODEL_INPUTS
from wan_gguf.convert.importance import Importance, merged_file, read_importance
from wan_gguf.convert.source import open_source
from wan_gguf.convert.type_costs import matrices
from wan_gguf.loaders.gguf import open_gguf
from wan_gguf.tests.convert.build import shapes_source, wan_values, write_safetensors
from wan_gguf.tests.loaders.models import wan_model_shapes
from wan_gguf.text.prompt_list import Row

REFERENCE = MODEL_FILES / "wan_reference_dit_f16.gguf"
FILES = Files(Path("/a/model.gguf"), Path("/b/encoder.gguf"), Path("/c/vae.safetensors"))


@pytest.fixture(autouse=True)
def in_the_environment(monkeypatch) -> None:
    """As if the environment were ready and ran this process."""
    monkeypatch.setattr(command_convert, "prepare", lambda dev: Prepared(Path("python"), Path("host")))
    monkeypatch.setattr(command_convert, "is_active", lambda: True)


def test_the_recorder_stands_between_model_and_sampler():
    source = open_source(REFERENCE)
    made = workflow(source, FILES, Row("a red circle"), 3)
    assert made["sampler"]["inputs"]["model"] == ["record", 0]
    assert made["record"]["inputs"]["model"] == ["model", 0]
    assert (made["record"]["inputs"]["sigma_min"], made["record"]["inputs"]["sigma_max"]) == (0.0, 1.0)
    assert made["prompt"]["inputs"]["positive"] == "a red circle" and made["sampler"]["inputs"]["seed"] == 3
    assert [made[node]["inputs"][key] for node, key in MODEL_INPUTS] == [
        "model.gguf", "encoder.gguf", "vae.safetensors",
    ]  # fmt: skip
    links = [value[0] for node in made.values() for value in node["inputs"].values() if isinstance(value, list)]
    assert set(links) <= set(made)  # nothing hangs on a node that was taken out
    assert (made["latent"]["inputs"]["width"], made["sampler"]["inputs"]["steps"]) == (64, 20)


def test_only_the_first_prompts_are_probed():
    source = open_source(REFERENCE)
    probes = [workflow(source, FILES, Row("a"), i)["record"]["inputs"]["probed_steps"] for i in range(6)]
    assert probes == [4, 4, 4, 4, 0, 0]


@pytest.mark.parametrize(("expert", "sigmas"), [("high", (0.875, 1.0)), ("low", (0.0, 0.875)), (None, (0.0, 1.0))])
def test_an_expert_is_recorded_where_it_works(expert, sigmas):
    source = replace(shapes_source(wan_model_shapes("Wan2.2-T2V-A14B"), "F16"), expert=expert)
    made = workflow(source, FILES, Row("a", seed=99), 0)
    assert (made["record"]["inputs"]["sigma_min"], made["record"]["inputs"]["sigma_max"]) == sigmas
    assert made["latent"]["inputs"]["width"] == 480 and made["sampler"]["inputs"]["seed"] == 99


def failure(capsys, *arguments) -> str:
    assert main.main(["convert", *map(str, arguments), "--dry-run"]) in (1, 2)
    return capsys.readouterr().err.splitlines()[-1]


def test_what_cannot_be_recorded_is_refused_before_anything_starts(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(calibration, "_record", lambda *_: pytest.fail("a server was started"))
    prompts = tmp_path / "p.txt"
    prompts.write_text("a red circle\n")
    asked = [tmp_path / "a.gguf", "--bits", "4.5", "--calibrate", prompts]
    image = write_safetensors(tmp_path / "i2v.safetensors", wan_values(channels=36), "F16")
    assert "is for text-to-video transformers" in failure(capsys, image, *asked)
    wide = write_safetensors(tmp_path / "t2v.safetensors", wan_values(dim=512), "F16")
    assert "--calibrate needs the model's --text-encoder FILE" in failure(capsys, wide, *asked)
    missing = ["--text-encoder", tmp_path / "none.gguf"]
    assert "--text-encoder: there is no file" in failure(capsys, wide, *asked, *missing)
    heavy = tmp_path / "heavy.txt"
    heavy.write_text("a red circle\n(a blue square:99)\n")
    assert "line 2, column prompt: " in failure(capsys, REFERENCE, *asked[:-1], heavy)
    assert "No such file or directory" in failure(capsys, REFERENCE, *asked[:-1], tmp_path / "none.txt")
    kept_file(tmp_path / "a.gguf").write_bytes(b"")
    assert "exists; use it with --importance, or overwrite it with --force" in failure(capsys, REFERENCE, *asked)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["p.txt", "heavy.txt", "i2v.safetensors", "t2v.safetensors", "a.importance.safetensors"]
    )


def test_a_merged_file_reads_as_what_it_was_made_from(tmp_path):
    importance = Importance({"a": np.array([1.0, 4.0], np.float32)}, {"a": 0.25}, (("x", "0" * 64),))
    (tmp_path / "m.safetensors").write_bytes(merged_file(importance))
    again = read_importance([tmp_path / "m.safetensors"], ["a"])
    assert np.array_equal(again.squares["a"], importance.squares["a"]) and again.sensitivities == {"a": 0.25}


def test_the_bundled_model_is_recorded_and_planned(monkeypatch, host_dir, tmp_path, capsys):
    """One step and two prompts in a real server, through the command line; two runs record the same."""
    monkeypatch.setenv("COMFYUI_DIR", str(host_dir))
    monkeypatch.setattr(calibration, "PROBED_STEPS", 1)
    monkeypatch.setattr(calibration, "PROBED_PROMPTS", 1)
    plain = calibration.workflow

    def one_step(*arguments) -> dict:
        made = plain(*arguments)
        made["sampler"]["inputs"]["steps"] = 1
        return made

    monkeypatch.setattr(calibration, "workflow", one_step)
    prompts = tmp_path / "p.txt"
    prompts.write_text("a red circle moves left\n红色圆形向左移动\n", encoding="utf-8")
    target = tmp_path / "a.gguf"
    arguments = [REFERENCE, target, "--bits", "4.5", "--calibrate", prompts, "--json"]
    assert main.main(["convert", *map(str, arguments)]) == 0
    plan = json.loads(capsys.readouterr().out)["plan"]
    assert plan["importance"]["from"] == "activations and sensitivities"
    kept = tmp_path / "a.importance.safetensors"
    importance = read_importance([kept], matrices(open_source(REFERENCE)))
    assert len(importance.sensitivities) == 60 and len(set(importance.sensitivities.values())) == 60
    assert json.loads(open_gguf(target).metadata["wan_gguf.plan"]) == plan
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.gguf", "a.importance.safetensors", "p.txt"]
    again = [REFERENCE, tmp_path / "b.gguf", "--bits", "4.5", "--importance", kept]
    assert main.main(["convert", *map(str, again)]) == 0
    assert (tmp_path / "b.gguf").read_bytes() == target.read_bytes()

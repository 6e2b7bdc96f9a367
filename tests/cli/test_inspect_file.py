"""`inspect FILE`: one page for a good file, the reason for a bad one, the errors of a converted one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from wan_gguf.cli import command_inspect, main
from wan_gguf.cli.preparation import Prepared
from wan_gguf.convert.importance import Importance
from wan_gguf.convert.plan import plan_gguf
from wan_gguf.convert.planned import Target, groups_of, plan_target, summary_of
from wan_gguf.convert.run import convert
from wan_gguf.convert.source import open_source
from wan_gguf.convert.type_costs import sizes
from wan_gguf.tests.convert.build import wan_values, write_safetensors
from wan_gguf.tests.loaders.build import gguf_bytes, sparse_gguf, text
from wan_gguf.tests.loaders.dialects import calcuis, city96, prefixed, sd_cpp
from wan_gguf.tests.loaders.models import TOKENIZER, shapes_of, umt5_tensors, wan_model_shapes, wan_tensors


@pytest.fixture(autouse=True)
def in_the_environment(monkeypatch) -> None:
    """As if the environment were ready and ran this process."""
    monkeypatch.setattr(command_inspect, "prepare", lambda dev: Prepared(Path("python"), Path("host")))
    monkeypatch.setattr(command_inspect, "is_active", lambda: True)


def inspect(capsys, *arguments) -> tuple[int, str]:
    code = main.main(["inspect", *map(str, arguments)])
    return code, capsys.readouterr().out


def test_a_published_file(tmp_path, capsys):
    """Of full size, but a hole behind its header."""
    file = city96(wan_model_shapes("Wan2.2-T2V-A14B"), "Q4_K_M")
    path = sparse_gguf(tmp_path / "Wan2.2-T2V-A14B-LowNoise-Q4_K_M.gguf", file.types(), file.metadata)
    code, out = inspect(capsys, path)
    lines = {line.split("  ")[0].strip(): " ".join(line.split()) for line in out.splitlines()}
    assert code == 0
    assert "9650090496 bytes, 1095 tensors" in out
    assert lines["model"] == "model Wan2.2 T2V-A14B or Wan2.1 T2V-14B"
    assert lines["expert"] == "expert low noise, by the file's name"
    assert lines["made by"] == "made by ComfyUI-GGUF (QuantStack, city96, unsloth and most others)"
    assert lines["node"] == "node Wan GGUF Model Loader"
    assert lines["folder"] == "folder models/diffusion_models"
    assert any(line.split()[:3] == ["Q4_K", "280", "tensors"] for line in out.splitlines())


SHAPES = shapes_of(wan_tensors())


@pytest.mark.parametrize(
    ("file", "maker"),
    [
        (city96(SHAPES), "ComfyUI-GGUF (QuantStack, city96, unsloth and most others)"),
        (sd_cpp(SHAPES), "stable-diffusion.cpp"),
        (calcuis(SHAPES), "gguf-connector (calcuis)"),
        (prefixed(city96(SHAPES), others=False), "ComfyUI-GGUF (QuantStack, city96, unsloth and most "
         "others), under the prefix model.diffusion_model."),
    ],
)  # fmt: skip
def test_who_made_a_file(tmp_path, capsys, file, maker):
    (tmp_path / "a.gguf").write_bytes(gguf_bytes(file.types(), file.metadata))
    code, out = inspect(capsys, tmp_path / "a.gguf", "--json")
    assert (code, json.loads(out)["dialect"]) == (0, maker)


def test_a_file_without_its_five_dimensional_tensor(tmp_path, capsys):
    file = city96(SHAPES)
    types = {name: tensor for name, tensor in file.types().items() if name != "patch_embedding.weight"}
    (tmp_path / "a.gguf").write_bytes(gguf_bytes(types, file.metadata))
    code, out = inspect(capsys, tmp_path / "a.gguf")
    assert code == 1
    assert "patch_embedding.weight is missing" in out
    assert "ComfyUI-GGUF without its last step, fix_5d_tensors.py" in out
    assert "models/diffusion_models" not in out


def test_a_text_encoder(tmp_path, capsys):
    (tmp_path / "a.gguf").write_bytes(gguf_bytes(umt5_tensors(), TOKENIZER))
    code, out = inspect(capsys, tmp_path / "a.gguf", "--json")
    said = json.loads(out)
    assert (code, said["kind"], said["node"], said["folder"]) == (
        0, "umt5", "Wan GGUF Text Encoder Loader", "models/text_encoders",
    )  # fmt: skip
    assert said["dialect"] == "llama.cpp's converter, architecture t5encoder"


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "empty"), (b"PK\x03\x04" + bytes(60), "pickle"), (b"<!doctype html>" + bytes(60), "a web page"),
     (b"GGUF" + bytes(60), "version"), (gguf_bytes(wan_tensors())[:-100], "the download is incomplete")],
)  # fmt: skip
def test_bad_files(tmp_path, capsys, content, said):
    (tmp_path / "a.gguf").write_bytes(content)
    code, out = inspect(capsys, tmp_path / "a.gguf")
    assert code == 1
    assert said in next(line for line in out.splitlines() if line.startswith("problem"))


def test_a_file_that_can_be_converted_comes_with_the_command(tmp_path, capsys):
    path = write_safetensors(tmp_path / "wan.safetensors", wan_values(), "F16")
    code, out = inspect(capsys, path, "--json")
    said = json.loads(out)
    assert (code, said["convert"]) == (
        1, "python3 cli convert 'wan.safetensors' 'wan-Q4_K_M.gguf' --type Q4_K_M",
    )  # fmt: skip
    assert "Wan transformer as safetensors" in said["problem"]


def test_a_planned_file_shows_its_plan(tmp_path, capsys):
    source = open_source(write_safetensors(tmp_path / "wan.safetensors", wan_values(layers=1), "F16"))
    target = Target(bits=5.0)
    plan, choices = plan_target(source, target, sizes(source), Importance())
    convert(source, plan, tmp_path / "a.gguf")
    code, out = inspect(capsys, tmp_path / "a.gguf", "--json")
    assert (code, json.loads(out)["plan"]) == (0, summary_of(choices, target, Importance()))
    _, out = inspect(capsys, tmp_path / "a.gguf")
    lines = out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.split() == ["matrices", "bits", "error", "share", "types"])
    assert [line.split()[0] for line in lines[start + 1 : -1]] == [group.name for group in groups_of(choices)]
    assert lines[-1].startswith("  planned for 5 bits per weight: ")


@pytest.mark.parametrize("saved", ["", "{", "[]", "null", '{"groups": 3}', '{"groups": {}}', '{"groups": {"a": {}}}'])
def test_a_plan_that_cannot_be_read_is_left_out(tmp_path, capsys, saved):
    file = city96(SHAPES)
    (tmp_path / "a.gguf").write_bytes(gguf_bytes(file.types(), {**file.metadata, "wan_gguf.plan": text(saved)}))
    code, out = inspect(capsys, tmp_path / "a.gguf", "--json")
    assert (code, json.loads(out)["plan"]) == (0, None)


def test_a_missing_file_is_one_line(tmp_path, capsys):
    assert main.main(["inspect", str(tmp_path / "none.gguf")]) == 1
    assert capsys.readouterr().err.startswith("error: No such file or directory: ")


def test_verify_prints_the_error_of_every_tensor(tmp_path, capsys):
    source = open_source(write_safetensors(tmp_path / "wan.safetensors", wan_values(), "F16"))
    convert(source, plan_gguf(source, "Q8_0"), tmp_path / "out.gguf")
    code, out = inspect(capsys, tmp_path / "out.gguf", "--verify", source.path, "--json")
    found = {error["name"]: error for error in json.loads(out)}
    assert code == 0
    assert found.keys() == source.tensors.keys()
    for error in found.values():
        # a uniform error of one step of 1/127 of the largest of 32 normally distributed weights, about 2.1 sigma
        low, high = (0.003, 0.008) if error["type_name"] == "Q8_0" else (0, 0)
        assert low <= error["relative"] <= high
    code, out = inspect(capsys, tmp_path / "out.gguf", "--verify", source.path)
    assert "Q8_0: 20 tensors, relative error" in out


def test_verify_against_another_model_is_refused(tmp_path, capsys):
    source = open_source(write_safetensors(tmp_path / "wan.safetensors", wan_values(), "F16"))
    convert(source, plan_gguf(source, "Q8_0"), tmp_path / "out.gguf")
    other = write_safetensors(tmp_path / "other.safetensors", wan_values(ffn=768), "F16")
    assert main.main(["inspect", str(tmp_path / "out.gguf"), "--verify", str(other)]) == 1
    assert "name the source that the file was made from" in capsys.readouterr().err


def test_header_only_reports_need_no_torch(root, tmp_path):
    """Its import takes seconds, and memory that a conversion is measured by."""
    code = (
        "import importlib.util, sys; root = sys.argv[1]\n"
        "spec = importlib.util.spec_from_file_location('wan_gguf', root + '/__init__.py',"
        " submodule_search_locations=[root])\n"
        "sys.modules['wan_gguf'] = importlib.util.module_from_spec(spec)\n"
        "import wan_gguf.cli.file_report, wan_gguf.cli.verification, wan_gguf.cli.conversion\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(root)], capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr

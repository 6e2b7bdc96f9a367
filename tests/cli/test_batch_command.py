"""`batch` as a command: options, one clear line for each way it can be wrong, what it prints."""

import json
from pathlib import Path

import pytest

from wan_gguf.cli import batch, command_batch, main
from wan_gguf.cli.batch_server import model_folders
from wan_gguf.cli.batch_store import opened_store
from wan_gguf.cli.preparation import Prepared
from wan_gguf.tests.cli.fake_comfy import workflow


@pytest.fixture
def in_the_environment(monkeypatch) -> None:
    """As if the environment were ready and ran this process."""
    monkeypatch.setattr(command_batch, "prepare", lambda dev: Prepared(Path("python"), Path("host")))
    monkeypatch.setattr(command_batch, "is_active", lambda: True)


@pytest.fixture
def prompts(tmp_path) -> Path:
    path = tmp_path / "prompts.txt"
    path.write_text("a red circle\na blue square\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x.txt"], "one of the arguments --server --local --ray is required"),
        (["x.txt", "--local", "--server", "http://h"], "not allowed with argument"),
        (["x.txt", "--local", "--ahead", "0"], "--ahead must be 1 to 64, got 0"),
        (["x.txt", "--local", "--patience", "nan"], "--patience must be seconds, 0 or more, got nan"),
        (["x.txt", "--local", "--seed", "-1"], "--seed must be 0 to"),
        (["x.txt", "--local", "--workers", "2"], "--workers must be 1 or more and go with --ray"),
        (["x.txt", "--local", "--models", "/no/such"], "--models is /no/such, which is no folder"),
        (["x.txt", "--server", "http://h", "--models", "."], "--models is for a server that this program starts"),
    ],
)
def test_wrong_options_are_one_line_and_exit_code_2(capsys, arguments, message):
    assert main.main(["batch", *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


def test_outside_the_environment_it_hands_over(monkeypatch, prompts):
    calls = []
    monkeypatch.setattr(command_batch, "prepare", lambda dev: Prepared(Path("python"), Path("host")))
    monkeypatch.setattr(command_batch, "is_active", lambda: False)
    monkeypatch.setattr(command_batch, "hand_over", lambda command: calls.append(command[2:]) or exit(0))
    with pytest.raises(SystemExit):
        command_batch.run([str(prompts), "--local"])
    assert calls == [["batch", str(prompts), "--local"]]


def test_bad_rows_end_it_before_a_store_is_made(in_the_environment, tmp_path, capsys):
    path = tmp_path / "list.csv"
    path.write_text("prompt,frames\na,80\n", encoding="utf-8")
    assert main.main(["batch", str(path), "--server", "http://127.0.0.1:9", "--out", str(tmp_path / "out")]) == 1
    assert "line 2, column frames: must be 1 + a multiple of 4, got 80" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_server_that_is_not_there_loses_nothing(in_the_environment, prompts, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = [str(prompts), "--server", "http://me:secret@127.0.0.1:9", "--patience", "0", "--out", str(out)]
    assert main.main(["batch", *arguments]) == 1
    err = capsys.readouterr().err
    assert "http://127.0.0.1:9: ComfyUI does not answer" in err and "same command again: nothing is lost" in err
    assert "secret" not in err
    with opened_store(out) as store:
        assert store.counts()["waiting"] == 2


def test_a_list_that_is_done_needs_no_server(in_the_environment, prompts, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(batch, "check_done", lambda store, out: [])
    with opened_store(tmp_path / "out") as store:
        store.sync(batch.read_jobs(prompts, None, [], "from the row", None))
        done, failed = store.keys("waiting")
        store.done(done)
        store.failed(failed, "the node said no")
    arguments = ["batch", str(prompts), "--server", "http://127.0.0.1:9", "--out", str(tmp_path / "out")]
    assert main.main(arguments) == 1
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "failed  0002  a-blue-square  the node said no",
        f"1 done, 1 failed, 0 left: {tmp_path / 'out'}",
    ]
    assert "2 rows, 0 new, 1 already done, 1 failed before (--retry-failed tries them again)" in err
    assert main.main([*arguments, "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert (said["total"], said["done"], said["failed"], said["waiting"]) == (2, 1, 1, 0)
    assert said["jobs"][1] == {
        "number": 2,
        "name": "a-blue-square",
        "state": "failed",
        "folder": None,
        "run_s": None,
        "error": "the node said no",
    }


def test_the_folders_of_a_models_folder_are_the_hosts_keys(tmp_path):
    for name in ("unet", "diffusion_models", "vae", ".hidden"):
        (tmp_path / name).mkdir()
    (tmp_path / "readme.txt").write_text("")
    assert model_folders(tmp_path) == {
        "diffusion_models": [tmp_path / "diffusion_models", tmp_path / "unet"],
        "vae": [tmp_path / "vae"],
    }
    assert model_folders(None) == {}


def test_two_whole_workflows_of_the_same_kind_are_two_jobs(tmp_path):
    for number in (1, 2):
        (tmp_path / f"{number}.json").write_text(json.dumps(workflow(number)))
    assert [name for name, _ in batch.read_jobs(tmp_path, None, [], "from the row", None)] == ["1", "2"]

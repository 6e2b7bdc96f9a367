"""`verify` without a server: options, the search for models, and what is said of an outcome."""

import hashlib
import json
import os
from typing import ClassVar

import pytest

from wan_gguf.cli import command_verify, model_search, verify_result
from wan_gguf.cli.errors import CliError, UsageError
from wan_gguf.cli.model_search import Found, find_models, server_folders
from wan_gguf.cli.verify_outcome import Outcome, as_text, changed_conditions


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def record(**models: bytes) -> dict:
    """A record whose workflow loads files of these names (with .gguf) and contents."""
    inputs = {f"{name}.gguf": sha256(data) for name, data in models.items()}
    workflow = {name: {"class_type": "WanGGUFModelLoader", "inputs": {"model_name": name}} for name in inputs}
    return {"workflow": workflow, "models": inputs, "frames_sha256": "0" * 64}


@pytest.fixture
def host(tmp_path):
    """A ComfyUI folder with an empty models folder."""
    (tmp_path / "host" / "models").mkdir(parents=True)
    return tmp_path / "host"


def put(folder, name, data):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
    return folder


@pytest.mark.parametrize("below", ["", "diffusion_models", "unet"])
def test_a_model_is_found_in_the_folder_given(tmp_path, host, below):
    folder = put(tmp_path / "mine" / below, "a.gguf", b"a")
    found = find_models(record(a=b"a"), tmp_path / "mine", host)
    assert found == Found({"a.gguf": ("diffusion_models", folder)})
    assert server_folders([found, found]) == {"diffusion_models": [folder]}


def test_a_model_is_found_in_comfyuis_folder(host):
    folder = put(host / "models" / "diffusion_models", "a.gguf", b"a")
    assert find_models(record(a=b"a"), None, host).files["a.gguf"][1] == folder


@pytest.mark.parametrize("below", ["", "upscale_models"])
def test_a_model_of_another_kind_is_found_and_given_to_the_loader_that_names_it(tmp_path, host, below):
    folder = put(tmp_path / "mine" / below, "4x.pth", b"x")
    put(host / "models" / "diffusion_models", "4x.pth", b"another kind of model")
    upscaled = {"1": {"class_type": "UpscaleModelLoader", "inputs": {"model_name": "4x.pth"}}}
    found = find_models({"workflow": upscaled, "models": {"4x.pth": sha256(b"x")}}, tmp_path / "mine", host)
    assert server_folders([found]) == {"upscale_models": [folder]}


def test_the_hash_decides_between_files_of_one_name(tmp_path, host):
    put(tmp_path / "mine", "a.gguf", b"old")
    right = put(host / "models" / "unet", "a.gguf", b"a")
    found = find_models(record(a=b"a"), tmp_path / "mine", host)
    assert found.files["a.gguf"][1] == right
    assert server_folders([found]) == {"diffusion_models": [right]}


def test_a_folder_in_which_the_host_would_take_another_file_is_refused(tmp_path, host):
    first = put(put(tmp_path / "mine", "a.gguf", b"old"), "b.gguf", b"b")
    put(host / "models" / "unet", "a.gguf", b"a")
    found = find_models(record(b=b"b", a=b"a"), first, host)
    with pytest.raises(CliError, match=r"unet/a\.gguf is meant, but ComfyUI would take .*mine/a\.gguf"):
        server_folders([found])


def test_a_missing_model_names_the_folders_and_the_option(host):
    with pytest.raises(
        CliError, match=r"^a\.gguf is in none of .*diffusion_models.*unet; name its folder with --models"
    ):
        find_models(record(a=b"a"), None, host)


def test_a_model_without_a_hash_is_used_and_said_so(tmp_path, host):
    folder = put(tmp_path, "a.gguf", b"any")
    elsewhere = {**record(a=b"a"), "models": {"a.gguf": None}}
    assert find_models(elsewhere, folder, host) == Found({"a.gguf": ("diffusion_models", folder)}, (), ("a.gguf",))
    with pytest.raises(UsageError, match=r"names the file 'a\.gguf', which is not among the record's models"):
        find_models({**elsewhere, "models": {}}, folder, host)


def test_a_changed_model_is_named_before_anything_runs(tmp_path, host, monkeypatch, capsys):
    put(tmp_path / "mine", "a.gguf", b"changed")
    monkeypatch.setattr(verify_result, "HostServer", None)  # starting one would raise
    path = tmp_path / "r.json"
    assert verify_result.run({path: record(a=b"a")}, tmp_path / "mine", False, host) == 1
    printed = capsys.readouterr().out
    assert printed.startswith(f"{path}: DIFFERENT\n  a.gguf is not the file the result was made with: ")
    assert verify_result.run({path: record(a=b"a")}, tmp_path / "mine", True, host) == 1
    printed = json.loads(capsys.readouterr().out)
    assert printed["is_equal"] is False and printed["results"][0]["notes"] == ["nothing was run"]


class Server:
    """In the place of HostServer: notes the number of threads it was started with; `queue` is what it has to do."""

    started: ClassVar[list] = []
    queue: ClassVar[dict] = {"queue_running": [], "queue_pending": []}

    def __init__(self, *_arguments, model_folders, options):
        assert options == ("--cache-none",)
        self.started.append((os.environ.get("OMP_NUM_THREADS"), model_folders))

    def get_json(self, path):
        if self.queue is None:
            raise ConnectionRefusedError("gone")
        return {"/queue": self.queue}[path]

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        pass


def test_a_server_for_each_number_of_threads(tmp_path, host, monkeypatch, capsys):
    folder = put(tmp_path / "mine", "a.gguf", b"a")
    monkeypatch.setattr(verify_result, "HostServer", Server)
    monkeypatch.setattr(verify_result, "check", lambda server, path, *_: Outcome(str(path), 1, "ab"))
    monkeypatch.setattr(Server, "started", [])
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    records = {tmp_path / str(number): {**record(a=b"a"), "threads": count} for number, count in enumerate([5, 1, 5])}
    records[tmp_path / "3"] = record(a=b"a")
    assert verify_result.run(records, folder, False, host) == 0
    folders = {"diffusion_models": [folder]}
    assert Server.started == [("5", folders), ("1", folders), ("3", folders)]
    assert os.environ["OMP_NUM_THREADS"] == "3"
    said = [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()]
    assert said == [str(tmp_path / name) for name in "0213"]


@pytest.fixture
def failing(tmp_path, host, monkeypatch):
    """failing(json) -> exit code for four records: of a lost model, a good one, one that cannot be made, a good one."""
    folder = put(tmp_path / "mine", "a.gguf", b"a")

    def check(_server, path, *_):
        if path.name == "2":
            raise CliError("the workflow uses X")
        return Outcome(str(path), 1, "ab")

    def run(is_json: bool) -> int:
        monkeypatch.setattr(verify_result, "HostServer", Server)
        monkeypatch.setattr(verify_result, "check", check)
        monkeypatch.setattr(Server, "started", [])
        records = {tmp_path / "0": record(lost=b"l")} | {tmp_path / name: record(a=b"a") for name in "123"}
        return verify_result.run(records, folder, is_json, host)

    return run


def test_a_record_that_cannot_be_made_costs_the_others_nothing(failing, tmp_path, capsys):
    assert failing(False) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{tmp_path / '0'}: NOT CHECKED, lost.gguf is in none of ")
    assert lines[1:] == [
        f"{tmp_path / '1'}: equal, 1 frames, ab",
        f"{tmp_path / '2'}: NOT CHECKED, the workflow uses X",
        f"{tmp_path / '3'}: equal, 1 frames, ab",
    ]
    assert failing(True) == 1
    printed = json.loads(capsys.readouterr().out)
    assert [one["is_equal"] for one in printed["results"]] == [False, True, False, True] and not printed["is_equal"]
    assert [one["problem"] is None for one in printed["results"]] == [False, True, False, True]


@pytest.mark.parametrize(
    ("queue", "servers"),
    [
        ({"queue_running": [], "queue_pending": []}, 1),
        ({"queue_running": [[1]], "queue_pending": []}, 2),  # the host has begun what it refused in part
        (None, 2),
    ],
    ids=["idle", "busy", "gone"],
)
def test_what_a_record_has_left_behind_does_not_meet_the_next_one(failing, monkeypatch, queue, servers):
    monkeypatch.setattr(Server, "queue", queue)
    assert failing(True) == 1
    assert len(Server.started) == servers


def test_an_interrupt_keeps_the_outcomes_that_are_known(failing, monkeypatch, capsys, tmp_path):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(verify_result, "server_folders", interrupt)
    with pytest.raises(KeyboardInterrupt):
        failing(True)
    printed = json.loads(capsys.readouterr().out)
    assert [one["record"] for one in printed["results"]] == [str(tmp_path / "0")] and not printed["is_equal"]


def test_conditions_that_are_known_of_both_and_differ_are_named():
    then = {"versions": {"torch": "2.11.0", "python": "3.12.3"}, "device": "cpu", "threads": 8, "cpu_capability": None}
    now = {"versions": {"torch": "2.12.0", "python": "3.12.3"}, "device": "cpu", "threads": 2, "cpu_capability": "AVX2"}
    assert changed_conditions(then, now) == ["torch: then 2.11.0, now 2.12.0", "threads: then 8, now 2"]
    assert changed_conditions({"versions": "edited"}, now) == []


def test_what_is_said_of_an_outcome():
    equal = Outcome("r.json", 17, "ab", conditions=["threads: then 8, now 2"], notes=["no video there"])
    assert as_text(equal) == "r.json: equal, 17 frames, ab\n  no video there"
    different = Outcome("r.json", 17, "ab", ["frames"], ["threads: then 8, now 2"])
    said = "r.json: DIFFERENT\n  frames\n  made under other conditions:\n    threads: then 8, now 2"
    assert as_text(different) == said


def test_wrong_options_end_before_anything_is_prepared(tmp_path, monkeypatch):
    monkeypatch.setattr(command_verify, "prepare", None)  # preparing would raise
    (tmp_path / "r.json").write_text("{}")
    for arguments, message in (
        ([], "the following arguments are required: RESULT.json"),
        ([str(tmp_path / "r.json")], "is not the record of a result"),
        ([str(tmp_path / "r.json"), "--models", str(tmp_path / "gone")], "gone, which is no folder"),
    ):
        with pytest.raises(UsageError, match=message):
            command_verify.run(arguments)


def test_the_models_folder_is_searched_before_comfyuis(host, tmp_path):
    assert model_search._places("loras", tmp_path, host)[1:3] == [tmp_path, tmp_path / "loras"]

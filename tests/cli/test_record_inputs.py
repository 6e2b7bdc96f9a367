"""The files a record keeps: checked before anything runs, and put where a server of our own looks for them."""

import hashlib

import pytest

from wan_gguf.cli import record_inputs, verify_result
from wan_gguf.cli.errors import CliError
from wan_gguf.cli.input_files import Place
from wan_gguf.cli.record_inputs import changed_inputs, check_kept, placed_inputs

NAME = "子/起始 图.png"


@pytest.fixture
def made(tmp_path):
    """(path of a record, the record), with the kept file beside it."""
    folder = tmp_path / "0001-结果"
    (folder / "inputs").mkdir(parents=True)
    (folder / "inputs" / "1-a.png").write_bytes(b"start")
    kept = {"file": "inputs/1-a.png", "sha256": hashlib.sha256(b"start").hexdigest()}
    workflow = {"load": {"class_type": "LoadImage", "inputs": {"image": NAME}}}
    record = {"workflow": workflow, "models": {}, "frames_sha256": "0" * 64, "inputs": {NAME: kept}}
    return folder / "settings.json", record


def test_an_untouched_file_is_accepted(made):
    assert changed_inputs(*made) == []


def test_a_changed_file_is_named_and_nothing_is_started(made, tmp_path, monkeypatch, capsys):
    path, record = made
    file = path.parent / "inputs" / "1-a.png"
    file.write_bytes(b"Start")
    monkeypatch.setattr(verify_result, "HostServer", None)  # starting one would raise
    assert verify_result.run({path: record}, None, False, tmp_path) == 1
    line = f"start image '{NAME}' is not the one that was recorded: {file} has another SHA-256"
    assert capsys.readouterr().out == f"{path}: DIFFERENT\n  {line}\n  nothing was run\n"


def test_what_cannot_be_made_again_is_one_line_before_anything_starts(made, tmp_path, monkeypatch, capsys):
    path, record = made
    monkeypatch.setattr(verify_result, "HostServer", None)
    older = {key: value for key, value in record.items() if key != "inputs"}
    unkept = f"cannot be made again: its workflow reads the start image '{NAME}', which the record does not keep"
    unfetched = f"cannot be made again: the start image '{NAME}' could not be fetched when the record was made"
    missing = f"the start image '{NAME}' of {path} is missing: it belongs at {path.parent / 'inputs' / '1-a.png'}"
    (path.parent / "inputs" / "1-a.png").unlink()
    for changed, said in (
        (older, f"{path} {unkept}"),
        ({**record, "inputs": {}}, f"{path} {unkept}"),
        ({**record, "inputs": {NAME: None}}, f"{path} {unfetched}"),
        (record, missing),
    ):
        assert verify_result.run({path: changed}, None, False, tmp_path) == 1
        assert capsys.readouterr().out == f"{path}: NOT CHECKED, {said}\n"


def test_a_folder_in_the_place_of_the_file_is_no_file(made):
    path, record = made
    record["inputs"][NAME]["file"] = "inputs"
    with pytest.raises(CliError, match="is missing: it belongs at "):
        changed_inputs(path, record)


def test_inputs_that_the_server_marks_count_too(made):
    path, record = made
    record["workflow"]["other"] = {"class_type": "OfAnotherPack", "inputs": {"picture": "b.mp4"}}
    check_kept(path, record)
    with pytest.raises(CliError, match=r"reads the input file 'b\.mp4', which the record does not keep"):
        check_kept(path, record, {"OfAnotherPack": {"picture"}})


@pytest.mark.parametrize(
    ("name", "where"),
    [(NAME, f"input/{NAME}"), ("a b.png [output]", "output/a b.png"), ("t.png [temp]", "temp/temp/t.png")],
)
def test_a_file_lies_in_the_servers_folder_while_it_is_needed(made, tmp_path, name, where):
    path, record = made
    record["inputs"] = {name: record["inputs"][NAME]}
    with placed_inputs(tmp_path / "base", path, record):
        assert (tmp_path / "base" / where).read_bytes() == b"start"
    assert not (tmp_path / "base" / where).exists()


def test_a_file_that_cannot_be_placed_is_said_in_one_line(made, tmp_path):
    path, record = made
    (tmp_path / "base").write_bytes(b"no folder")
    with (
        pytest.raises(CliError, match="cannot be given to ComfyUI: "),
        placed_inputs(tmp_path / "base", path, record),
    ):
        pass
    record["inputs"] = {"../a.png": record["inputs"][NAME]}
    with pytest.raises(CliError, match="leads out of ComfyUI's folders"), placed_inputs(tmp_path, path, record):
        pass


def test_windows_devices_are_not_written_to():
    record_inputs._check_name(Place("input", "con.png"), "linux")
    with pytest.raises(CliError, match=r"Windows allows no file called 'con\.png'"):
        record_inputs._check_name(Place("input", "con.png"), "win32")

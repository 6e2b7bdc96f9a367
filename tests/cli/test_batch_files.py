"""A job's folder: which files it gets, the prefix given to saving nodes, appearing whole or not at all."""

import json

import pytest

from wan_gguf.cli.batch_files import (
    holds_job,
    partial_folder,
    place_folder,
    posted_workflow,
    publish,
    wanted_files,
    write_record,
)
from wan_gguf.cli.batch_store import Job
from wan_gguf.cli.errors import CliError

KEY = "0123456789abcdef" * 4


def entry(name: str, kind: str = "output") -> dict:
    return {"filename": name, "subfolder": "s", "type": kind}


def filled(out):
    """A folder that is ready to be published."""
    partial = partial_folder(out, KEY)
    (partial / "save.png").write_bytes(b"picture")
    write_record(partial, {"job": {"key": KEY}})
    return partial


def job(workflow: dict, attempt: int = 1, mark: str = "fedcba98") -> Job:
    return Job(KEY, workflow, "waiting", None, attempt, 0, {}, None, None, None, 1, "name", mark)


def prefixes(posted: dict) -> list:
    return [body["inputs"]["filename_prefix"] for body in posted.values()]


def test_every_saving_node_writes_below_a_folder_of_batch_job_and_attempt():
    made = {
        "9": {"class_type": "SaveVideo", "inputs": {"filename_prefix": "video/%date%"}},
        "1:2": {"class_type": "SaveImage", "inputs": {"filename_prefix": "a"}},
        "1_2": {"class_type": "SaveImage", "inputs": {"filename_prefix": "a"}},
        "5": {"class_type": "SaveImage", "inputs": {"filename_prefix": ["9", 0]}},
    }
    folder = "wan_gguf_batch/0123456789abcdef-fedcba98"
    assert prefixes(posted_workflow(job(made))) == [f"{folder}/9", f"{folder}/1_2", f"{folder}/1_2_", ["9", 0]]
    assert made["9"]["inputs"]["filename_prefix"] == "video/%date%"
    assert prefixes(posted_workflow(job(made, attempt=3)))[0] == f"{folder}-3/9"


def test_what_a_store_of_an_earlier_version_has_sent_is_found_where_it_was_sent():
    made = {"9": {"class_type": "SaveVideo", "inputs": {"filename_prefix": "x"}}}
    assert prefixes(posted_workflow(job(made, mark=""))) == ["wan_gguf_batch/0123456789abcdef/9"]
    assert prefixes(posted_workflow(job(made, 2, ""))) == ["wan_gguf_batch/0123456789abcdef-2/9"]


def test_one_file_is_named_after_its_node_and_several_are_counted():
    outputs = {
        "12": {"images": [entry("a_00001_.mp4")], "animated": [True]},
        "7": {"images": [entry("f_00001_.png"), entry("f_00002_.png"), entry("f_00001_.png")]},
        "3": {"images": [entry("preview.png", "temp")]},
        "prompt": {"text": ["shown"]},
    }
    found = {file.path: file.entry["filename"] for file in wanted_files(outputs)}
    assert found == {"12.mp4": "a_00001_.mp4", "7/0001.png": "f_00001_.png", "7/0002.png": "f_00002_.png"}


def test_previews_count_only_where_nothing_was_saved():
    assert [file.path for file in wanted_files({"3": {"images": [entry("x.png", "temp")]}})] == ["3.png"]
    assert wanted_files({"3": {"text": ["a"]}, "4": {"images": ["odd", {}]}, "5": None}) == []


@pytest.mark.parametrize("name", ["../../evil.png", "/etc/x.png", "a.p/../../ng", "x.\x00png"])
def test_a_servers_file_names_never_leave_the_folder(name):
    (file,) = wanted_files({"../up": {"images": [entry(name)]}})
    assert file.path.startswith("___up") and "/" not in file.path and "\x00" not in file.path


def test_every_file_has_a_name_of_its_own_that_every_file_system_takes():
    many = [entry("a.png"), entry("b.png")]
    outputs = {
        "57:8": {"images": [entry("a.png")]},
        "57_8": {"images": many},
        "保存一": {"images": [entry("a.png")]},
        "保存二": {"images": [entry("a.png")]},
        "sheet": {"images": [entry("a.png")]},
        "settings": {"text": [entry("a.json")]},
        "inputs": {"images": many},
        "long": {"images": [entry("a." + "x" * 240)]},
    }
    paths = [file.path for file in wanted_files(outputs)]
    assert {"57_8.png", "57_8_/0002.png", "保存一.png", "保存二.png"} < set(paths)
    assert {"sheet_.png", "settings_.json", "inputs_/0001.png"} < set(paths)
    assert len({path.casefold() for path in paths}) == len(paths) == 10
    assert max(len(path.encode()) for path in paths) < 255


def test_a_folder_appears_whole_under_each_of_its_places(tmp_path):
    targets = [place_folder(tmp_path, 1, "one"), place_folder(tmp_path, 12345, "名")]
    publish(filled(tmp_path), KEY, targets)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0001-one", "12345-名"]
    assert all(holds_job(target, KEY) and (target / "save.png").read_bytes() == b"picture" for target in targets)
    assert not holds_job(targets[0], "other key")


def test_publishing_once_more_changes_nothing_and_fills_what_is_missing(tmp_path):
    first, second = place_folder(tmp_path, 1, "one"), place_folder(tmp_path, 2, "two")
    publish(filled(tmp_path), KEY, [first])
    (first / "note.txt").write_text("the user's")
    publish(filled(tmp_path), KEY, [first, second])
    assert (first / "note.txt").exists() and holds_job(second, KEY)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0001-one", "0002-two"]


def test_what_an_earlier_run_left_half_is_removed(tmp_path):
    (partial_folder(tmp_path, KEY) / "half").write_text("")
    assert list(partial_folder(tmp_path, KEY).iterdir()) == []


def test_something_else_under_the_name_is_not_replaced(tmp_path):
    target = place_folder(tmp_path, 1, "one")
    target.mkdir()
    (target / "settings.json").write_text(json.dumps({"job": {"key": "another"}}))
    with pytest.raises(CliError, match="is not this job's result; move it away"):
        publish(filled(tmp_path), KEY, [target])
    assert json.loads((target / "settings.json").read_text()) == {"job": {"key": "another"}}


@pytest.mark.parametrize("text", ["{", "[]", '{"job": 3}', "\x00"])
def test_a_damaged_record_is_no_result(tmp_path, text):
    (tmp_path / "settings.json").write_text(text)
    assert not holds_job(tmp_path, KEY)


def test_half_a_character_in_a_servers_words_does_not_stop_the_record(tmp_path):
    record = {"job": {"key": KEY}, "system_stats": {"name": "cut \ud83d 显卡"}}
    write_record(tmp_path, record)
    assert "显卡" in (tmp_path / "settings.json").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "settings.json").read_text(encoding="utf-8")) == record

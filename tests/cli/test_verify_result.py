"""A result of the demo is made again on a running host: equal as it is, different when anything in it is changed.

Needs the reference model's files in reference_model/files.
"""

import copy
import hashlib
import http.client
import io
import json
import shutil
import time

import pytest

from wan_gguf.cli import demo, verify_result
from wan_gguf.cli.client import generate
from wan_gguf.cli.errors import CliError
from wan_gguf.cli.output import decode_frames
from wan_gguf.cli.record import local_conditions, make_record, model_hashes, told_frames_sha256
from wan_gguf.cli.record_form import read_record
from wan_gguf.cli.terminal import Progress
from wan_gguf.cli.verify_result import check
from wan_gguf.cli.workflow import load_workflow, with_settings


def forget(server) -> None:
    """Make the host drop what it has cached, or it would hand out the old frames instead of making them again."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("POST", "/free", json.dumps({"free_memory": True}), {"Content-Type": "application/json"})
    assert connection.getresponse().status == 200
    connection.close()


def ran(server, workflow) -> set[str]:
    """The nodes that are not answered from the host's cache."""
    return set(generate(server.port, workflow, lambda *_: None).stage_s)


@pytest.fixture(scope="module")
def made(server, tmp_path_factory):
    """(path of a record with its video beside it, the record) of a small demo."""
    workflow = with_settings(
        load_workflow(), {"prompt": "a red circle moves left", "seed": 11, "steps": 2, "frames": 5}
    )
    result = demo.make_video(server, workflow, Progress(io.StringIO()))
    folder = tmp_path_factory.mktemp("结果")
    paths = demo.write_results(folder, "demo", result["video"], result["sheet"], result["record"])
    return paths["record"], read_record(paths["record"])


@pytest.fixture
def checked(server, made):
    """checked(change) -> the outcome for the record after change(record)."""

    def run(change=lambda record: None, path=made[0]):
        record = copy.deepcopy(made[1])
        change(record)
        return check(server, path, record, Progress(io.StringIO()))

    return run


def test_an_untouched_result_is_made_again_and_equal(server, made, checked):
    deadline = time.monotonic() + 60
    forget(server)
    while not {"model", "sampler", "save_video"} <= ran(server, made[1]["workflow"]):
        # the host forgets in its own time
        assert time.monotonic() < deadline, "the host still answers from its cache"
        forget(server)
    outcome = checked()
    assert (outcome.is_equal, outcome.differences, outcome.conditions) == (True, [], [])
    assert outcome.frames == 5 and outcome.frames_sha256 == made[1]["frames_sha256"]


def first_digit_changed(text: str) -> str:
    return ("0" if text[0] != "0" else "1") + text[1:]


def edit(*keys, value):
    """A change that sets record[keys[0]][keys[1]]...; `value` may be a function of the old value."""

    def change(record):
        for key in keys[:-1]:
            record = record[key]
        record[keys[-1]] = value(record[keys[-1]]) if callable(value) else value

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (edit("frames_sha256", value=first_digit_changed), "frames_sha256 does not belong to frame_hashes"),
        (edit("frame_hashes", 3, value="0" * 16), "frame_hashes do not belong to frames_sha256"),
        (edit("settings", "seed", value=12), "seed: the record says 12, its workflow gives 11"),
        (edit("settings", "negative", value="other"), "negative: the record says 'other', its workflow gives "),
        (edit("language", value="zh"), "language: the record says 'zh', its workflow gives 'en'"),
        (edit("workflow", "sampler", "inputs", "seed", value=12), "5 of 5 frames differ, the first is frame 0"),
        (edit("workflow", "prompt", "inputs", "positive", value="a blue square"), "5 of 5 frames differ"),
        (edit("workflow", "latent", "inputs", "frames", value=1), "the record has 5 frames, its workflow gives 1"),
        (edit("video_sha256", value=first_digit_changed), "demo.mp4 is not the file that was recorded"),
    ],
)
def test_whatever_is_edited_is_found_and_named(checked, change, said):
    outcome = checked(change)
    assert not outcome.is_equal
    assert any(said in difference for difference in outcome.differences), outcome.differences


def test_a_record_without_hashes_of_frames_is_compared_by_the_whole_hash(checked):
    def older(record):
        del record["frame_hashes"], record["record_version"], record["nodes"], record["video_sha256"]

    assert checked(older).is_equal
    assert not checked(lambda record: (older(record), edit("frames_sha256", value="0" * 64)(record))).is_equal


def test_a_video_that_was_changed_or_moved_away(made, checked, tmp_path):
    path, record = made
    beside = tmp_path / path.name
    moved = checked(path=beside)
    assert moved.is_equal and moved.notes[0] == "demo.mp4 is not beside the record, so it was not compared"
    (tmp_path / record["files"]["video"]).write_bytes(b"another video")
    assert "demo.mp4 is not the file that was recorded" in checked(path=beside).differences


def imitate(record, video: bytes) -> None:
    """Another video in the demo's place, of which the record has the right hash."""
    record["video_sha256"] = hashlib.sha256(video).hexdigest()


@pytest.mark.parametrize(
    "change",
    [
        lambda record: imitate(record, b"another video"),
        lambda record: (imitate(record, b"another video"), record["nodes"].update(video=None)),
        lambda record: record.update(video_sha256=None),
        lambda record: (record.update(files={}), record.pop("video_sha256"), record["nodes"].pop("video")),
    ],
    ids=["hash", "hash and node", "no hash", "no file"],
)
def test_another_video_is_found_whatever_the_record_says_of_it(made, checked, tmp_path, change):
    beside = tmp_path / made[0].name
    (tmp_path / made[1]["files"]["video"]).write_bytes(b"another video")
    assert "demo.mp4 is not the video that the workflow makes" in checked(change, beside).differences


def test_another_contact_sheet_is_found_or_said_not_to_be_compared(made, checked, tmp_path):
    beside = tmp_path / made[0].name
    shutil.copy(made[0].with_name("demo.mp4"), tmp_path)
    shutil.copy(made[0].with_name("demo.png"), tmp_path)
    assert checked(path=beside).notes == ["compared with its hash in the record only: demo.png"]
    (tmp_path / "demo.png").write_bytes(b"another sheet")
    assert checked(path=beside).differences == ["demo.png is not the file that was recorded"]
    outcome = checked(lambda record: record.pop("contact_sheet_sha256"), beside)
    assert outcome.is_equal and outcome.notes == ["not compared with anything: demo.png"]


def test_nodes_of_other_packs_are_refused(checked):
    def foreign(record):
        record["workflow"]["x"] = {"class_type": "RunAnything", "inputs": {"code": "1"}}

    with pytest.raises(CliError, match="the workflow uses RunAnything, which neither ComfyUI nor this pack has"):
        checked(foreign)


def test_frames_of_a_node_that_gives_none_are_different(checked):
    outcome = checked(edit("nodes", "frames", value="latent"))
    assert "the record has 5 frames, its workflow gives 0" in outcome.differences


def test_without_any_certain_hash_nothing_is_claimed(checked):
    with pytest.raises(CliError, match="has no hash of frames, nor of a video whose bytes are certain"):
        checked(lambda record: record.update(frames_sha256=None, video_sha256=None))


def test_a_model_of_unknown_hash_is_mentioned(server, made):
    outcome = check(server, *made, Progress(io.StringIO()), ("a.gguf",))
    assert outcome.is_equal and outcome.notes[0].startswith("a.gguf: the record does not tell which file")


def test_frames_and_file_of_the_streaming_node(server, tmp_path):
    """It tells the hash of its frames, and its file is the same bytes for the same frames and settings."""
    workflow = with_settings(load_workflow(), {"seed": 5, "steps": 1, "frames": 5})
    del workflow["save_frames"]
    inputs = workflow["save_video"]["inputs"]
    inputs |= {"tiling": "off", "images": False, "keep_latent": True}
    progress, nodes = Progress(io.StringIO()), {"video": "save_video", "frames": None}
    result = demo.run_workflow(server, workflow, progress, ("save_video",))
    models, video = model_hashes(workflow), result.files["save_video"][0]
    record = make_record(workflow, result, [], video, models, local_conditions(server), nodes)
    record |= {"frames_sha256": told_frames_sha256(result.outputs), "frame_hashes": None}
    path = tmp_path / "settings.json"
    path.write_text(json.dumps(record), encoding="utf-8")
    forget(server)
    outcome = check(server, path, read_record(path), progress)
    assert (outcome.differences, outcome.frames_sha256) == ([], record["frames_sha256"])
    inputs["crf"] = 40
    assert check(server, path, record, progress).differences == ["the encoded video has other bytes"]
    inputs["crf"], workflow["sampler"]["inputs"]["seed"] = -1, 6
    assert len(check(server, path, record, progress).differences) == 3  # the seed of the settings, too


def test_tiles_that_were_chosen_by_the_memory_are_taken_again(server, tmp_path, monkeypatch):
    """The workflow leaves the choice to the node, which now has room for whole frames."""
    workflow = with_settings(load_workflow(), {"steps": 1, "frames": 1, "width": 320, "height": 64})
    progress, short_of_memory = Progress(io.StringIO()), {"wan_gguf_again": {"tiling": {"save_video": "256"}}}
    result = demo.run_workflow(server, workflow, progress, ("save_video", "save_frames"), short_of_memory)
    parts = (decode_frames(result.files["save_frames"]), result.files["save_video"][0], model_hashes(workflow))
    record = make_record(workflow, result, *parts, local_conditions(server))
    assert record["tiling"] == {"save_video": {"tile_px": 256, "overlap_px": 64}}
    path = tmp_path / "result.json"
    (tmp_path / "result.mp4").write_bytes(parts[1])
    forget(server)
    outcome = check(server, path, record, progress)
    assert (outcome.differences, outcome.notes) == ([], [])
    with monkeypatch.context() as patch, pytest.raises(CliError, match="save_video decoded whole frames then, and now"):
        patch.setattr(verify_result, "made_again", lambda record: short_of_memory)
        check(server, path, record | {"tiling": {"save_video": "off"}}, progress)
    del record["tiling"]
    forget(server)
    assert "1 of 1 frames differ, the first is frame 0 (from 0)" in check(server, path, record, progress).differences


def test_the_file_of_the_hosts_own_saver_is_only_mentioned(server, tmp_path):
    """It may differ on another machine; the frames may not."""
    workflow = with_settings(load_workflow(), {"seed": 5, "steps": 1, "frames": 5})
    frames = {"samples": ["sampler", 0], "vae": ["vae", 0]}
    workflow |= {
        "decode": {"class_type": "VAEDecode", "inputs": frames},
        "video": {"class_type": "CreateVideo", "inputs": {"images": ["decode", 0], "fps": 16.0}},
        "save_video": {
            "class_type": "SaveVideo",
            "inputs": {"video": ["video", 0], "filename_prefix": "stock", "format": "mp4", "codec": "h264"},
        },
    }
    workflow["save_frames"]["inputs"]["images"] = ["decode", 0]
    result = demo.run_workflow(server, workflow, Progress(io.StringIO()), ("save_video", "save_frames"))
    pictures = decode_frames(result.files["save_frames"])
    record = make_record(workflow, result, pictures, b"other bytes", model_hashes(workflow), local_conditions(server))
    outcome = check(server, tmp_path / "settings.json", record, Progress(io.StringIO()))
    assert outcome.is_equal and outcome.frames == 5
    assert "the video was encoded to other bytes, as ComfyUI's Save Video may do" in outcome.notes


def test_the_command_with_a_server_of_its_own(server, made, host_dir, monkeypatch, capsys, tmp_path):
    """Another process, another server, another place of the pack; the recorded threads, not this machine's.

    The second record is of the same values under another title, which is in its video; the host's cache knows no title.
    """
    path, record = made
    workflow = copy.deepcopy(record["workflow"])
    workflow["save_video"]["_meta"] = {"title": "保存　again"}
    workflow["save_video"]["inputs"]["tiling"] = "off"  # or the host would answer from its cache here
    titled = demo.make_video(server, workflow, Progress(io.StringIO()))
    path2 = demo.write_results(tmp_path, "titled", titled["video"], titled["sheet"], titled["record"])["record"]
    record2 = read_record(path2)
    record3 = copy.deepcopy(record2)
    record3["workflow"]["save_video"]["_meta"] = {"title": "another"}
    path3 = path2.with_name("edited.json")
    monkeypatch.setenv("OMP_NUM_THREADS", str(record["threads"] + 1))
    monkeypatch.setenv("MKL_DYNAMIC", "FALSE")
    assert verify_result.run({path: record, path2: record2, path3: record3}, None, True, host_dir) == 1
    *equal, edited = json.loads(capsys.readouterr().out)["results"]
    for printed in equal:
        assert printed["is_equal"] and printed["frames_sha256"] == record["frames_sha256"]
        assert not [text for text in printed["conditions"] if text.startswith("threads")]
    assert edited["differences"][0] == "the encoded video has other bytes"

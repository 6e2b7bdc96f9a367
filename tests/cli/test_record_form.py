"""A record is a file that anyone may have written: what does not fit is one line that says what and where."""

import json
from hashlib import sha256

import pytest

from wan_gguf.cli import record_form
from wan_gguf.cli.errors import UsageError
from wan_gguf.cli.record_form import read_record, recorded_files

NODE = {"class_type": "SaveImage", "inputs": {}}
GOOD = {"workflow": {"save_frames": NODE}, "models": {"a/b.gguf": "0" * 64}, "frames_sha256": "f" * 64}


@pytest.fixture
def written(tmp_path):
    """written(value) -> a file that holds it as JSON, or as it is if it is bytes."""

    def write(value):
        path = tmp_path / "结果 result.json"
        path.write_bytes(value if isinstance(value, bytes) else json.dumps(value).encode())
        return path

    return write


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"record_version": 1, "frame_hashes": ["0" * 16], "video_sha256": "0" * 64, "nodes": {"frames": "save_frames"}},
        {"frames_sha256": None, "models": {"a.gguf": None}, "nodes": {"frames": None}},
        {"video_sha256": None, "files": {"video": "红_seed0.mp4"}, "settings": {"seed": 1}, "of a later version": [1]},
        {"workflow": {"a": {**NODE, "inputs": {"x": {"__value__": ["b", "c"]}}, "_meta": {"title": "保存　视频"}}}},
        {"tiling": {"save_video": "off", "4": None, "3": {"tile_px": 256, "overlap_px": 64}}},
        {"inputs": {"子/图\u3000a.png [temp]": {"file": "inputs/1-图.png", "sha256": "0" * 64}, "../no.png": None}},
    ],
)
def test_a_good_record_is_read_with_all_its_keys(written, more):
    assert read_record(written({**GOOD, **more})) == {**GOOD, **more}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"", r"is not JSON \(JSONDecodeError\); name the \.json"),
        (b"\xff\xfe{", r"is not JSON"),
        (b"\x89PNG\r\n", r"is not JSON"),
        (b"[" * 200_000, r"is not JSON \(RecursionError\)"),
        ([1], "it holds a list, not an object"),
        ({"nodes": []}, "has no workflow, no models, no frames_sha256; name the .json"),
        ({"3": NODE, "4": NODE}, "is not the record of a result"),
    ],
)
def test_a_file_of_another_program(written, value, message):
    with pytest.raises(UsageError, match=message) as refused:
        read_record(written(value))
    assert "\n" not in str(refused.value) and "结果 result.json" in str(refused.value)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"record_version": 2}, "has record_version 2, this pack reads 1; update the pack"),
        ({"workflow": {}}, "not an object of 1 to"),
        ({"workflow": {"a": {"class_type": "X"}}}, "the node 'a' of its workflow has no class_type or no inputs"),
        ({"workflow": {"a": {"class_type": ["X"], "inputs": {}}}}, "the node 'a'"),
        ({"workflow": {"a": []}}, "the node 'a'"),
        ({"workflow": {"a\x1b": {**NODE, "class_type": "\x1b[2J"}}}, r"the node 'a\\x1b'"),
        ({"workflow": {"a": {**NODE, "_meta": "title"}}}, "the node 'a' of its workflow has no usable title"),
        ({"workflow": {"a": {**NODE, "_meta": {"title": "a\nb"}}}}, "has no usable title"),
        ({"workflow": {"a": {**NODE, "inputs": {"x": {"__value__": "a.gguf"}}}}}, "the input 'x' of .* is wrapped"),
        ({"frames_sha256": sha256(b"").hexdigest(), "frame_hashes": []}, "frames_sha256 is the hash of no frames"),
        ({"frames_sha256": None, "frame_hashes": ["f" * 16]}, "it has frame_hashes and no frames_sha256"),
        ({"contact_sheet_sha256": "f"}, "contact_sheet_sha256 is not 64"),
        ({"frames_sha256": "f" * 63}, "frames_sha256 is not 64"),
        ({"frames_sha256": 5}, "frames_sha256 is not 64"),
        ({"frames_sha256": "f" * 64 + "\n"}, "frames_sha256 is not 64"),
        ({"video_sha256": 5}, "video_sha256 is not 64"),
        ({"models": []}, "models is not an object"),
        ({"models": {"a": "x"}}, "models is not an object"),
        ({"frame_hashes": ["f" * 64]}, "frame_hashes is not a list"),
        ({"frame_hashes": {}}, "frame_hashes is not a list"),
        ({"nodes": {"frames": "gone"}}, "its workflow has no node 'gone'"),
        ({"nodes": ["save_frames"]}, "nodes is not an object"),
        ({"settings": "seed 5"}, "settings is not an object"),
        ({"files": 5}, "files is not an object"),
        ({"tiling": {"save": "auto"}}, "tiling is not an object of nodes"),
        ({"tiling": "off"}, "tiling is not an object of nodes"),
        ({"threads": "2"}, "threads is not a number from 1 to 1024"),
        ({"threads": True}, "threads is not a number"),
        ({"threads": 10**9}, "threads is not a number"),
        ({"inputs": []}, "inputs is not an object"),
        ({"inputs": {"a.png": "inputs/1-a.png"}}, "the input 'a.png' has no file or no SHA-256"),
        ({"inputs": {"a.png": {"file": "inputs/1-a.png"}}}, "the input 'a.png' has no file or no SHA-256"),
        ({"inputs": {"a.png": {"file": ["b"], "sha256": "0" * 64}}}, "the input 'a.png' has no file"),
        ({"inputs": {"a.png": {"file": "b", "sha256": "0" * 63}}}, "the input 'a.png' has no file or no SHA-256"),
    ],
)
def test_an_edited_record(written, changed, message):
    with pytest.raises(UsageError, match=message):
        read_record(written({**GOOD, **changed}))


@pytest.mark.parametrize(
    "name", ["../a.gguf", "/etc/a.gguf", "a/../../b.gguf", "C:\\a.gguf", "a\\..\\..\\b", "", "a\0b"]
)
def test_names_that_lead_out_of_a_folder(written, name):
    with pytest.raises(UsageError, match="leads out of its folder"):
        read_record(written({**GOOD, "models": {name: "0" * 64}}))
    for files in ({"video": name}, {name: "0" * 64}):
        with pytest.raises(UsageError, match="leads out of its folder"):
            read_record(written({**GOOD, "files": files}))
    kept = {"file": "inputs/1-a.png", "sha256": "0" * 64}
    with pytest.raises(UsageError, match="leads out of its folder"):
        read_record(written({**GOOD, "inputs": {"a.png": {**kept, "file": name}}}))
    with pytest.raises(UsageError, match="leads out of ComfyUI's folders"):
        read_record(written({**GOOD, "inputs": {name: kept}}))
    if name:
        with pytest.raises(UsageError, match="leads out of ComfyUI's folders"):
            read_record(written({**GOOD, "inputs": {f"{name} [output]": kept}}))


def test_the_files_beside_a_record_and_their_hashes():
    demo = {**GOOD, "files": {"video": "a.mp4", "record": "a.json"}, "video_sha256": "a" * 64}
    assert recorded_files(demo) == {"a.mp4": "a" * 64}
    assert recorded_files({**demo, "video_sha256": None}) == {}
    batch = {**GOOD, "files": {"save_frames/0001.png": "b" * 64, "save_video.mp4": "c" * 64}}
    assert recorded_files(batch) == batch["files"]
    sheet = {"contact_sheet_sha256": "d" * 64}
    assert recorded_files(batch | sheet) == batch["files"] | {"sheet.png": "d" * 64}
    named = {**demo, **sheet, "files": {**demo["files"], "contact_sheet": "a.png", "record": "a.json"}}
    assert recorded_files(named) == {"a.mp4": "a" * 64, "a.png": "d" * 64}
    assert recorded_files(GOOD) == {}


def test_a_file_that_is_not_there_or_too_large(written, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=r"gone\.json cannot be read: No such file"):
        read_record(tmp_path / "gone.json")
    monkeypatch.setattr(record_form, "MAX_RECORD_BYTES", 1 << 20)
    with pytest.raises(UsageError, match="is larger than 1 MiB"):
        read_record(written(b" " * ((1 << 20) + 1)))

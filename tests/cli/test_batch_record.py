"""What a job's record knows: frames from images, from the node that streams the video, or not at all."""

import hashlib

import pytest
import torch

from wan_gguf.cli.batch_files import wanted_files
from wan_gguf.cli.batch_pictures import DamagedFileError
from wan_gguf.cli.batch_record import Conditions, finish_folder
from wan_gguf.cli.batch_store import Job
from wan_gguf.cli.record_form import read_record
from wan_gguf.cli.video_tag import own_tag
from wan_gguf.cli.workflow import load_workflow
from wan_gguf.host.video_codecs import video_format
from wan_gguf.host.video_file import VideoWriter
from wan_gguf.tests.cli.fake_comfy import png, workflow

FACTS = {"versions": {"comfyui": "0.30.0"}, "device": "cpu", "threads": None, "cpu_capability": None, "platform": "p"}
TOLD = {"wan_gguf": [{"video": {"tiling": "off"}}]}
REPORT = {"text": ["English (en)\n- bad things"]}


def job(made: dict, outputs: dict) -> Job:
    return Job("ab" * 32, made, "made", None, 1, 0, outputs, None, None, 2.0, 7, "name")


def entry(name: str) -> dict:
    return {"filename": name, "subfolder": "", "type": "output"}


def record_of(tmp_path, made: dict, outputs: dict, models=None) -> dict:
    """The record of a folder in which every listed file is a picture."""
    files = wanted_files(outputs)
    for number, file in enumerate(files):
        (tmp_path / file.path).parent.mkdir(exist_ok=True)
        (tmp_path / file.path).write_bytes(png(number))
    finish_folder(tmp_path, job(made, outputs), files, Conditions(FACTS, models or {}, {"system": {}}), {})
    return read_record(tmp_path / "settings.json")


def test_the_frames_are_the_images_of_the_node_that_made_most(tmp_path):
    outputs = {
        "one": {"images": [entry("z.png")]},
        "many": {"images": [entry(f"f_{number}.png") for number in range(3)]},
    }
    saving = workflow(1)["save"]
    record = record_of(tmp_path, {"one": saving, "many": saving}, outputs)
    raw = b"".join(bytes([0, 0, blue]) * 64 for blue in range(3))
    assert record["frames_sha256"] == hashlib.sha256(raw).hexdigest()
    assert record["nodes"] == {"video": None, "frames": "many"}
    assert set(record["files"]) == {"one.png", "many/0001.png", "many/0002.png", "many/0003.png"}


@pytest.mark.parametrize(("told", "known"), [(["c" * 64], "c" * 64), ([], None), (["c" * 64, "d" * 64], None)])
def test_without_images_the_streaming_node_tells_the_hash(tmp_path, told, known):
    outputs = {"save": {"wan_gguf": [{"frames_sha256": one} for one in told], "latents": [entry("a.latent")]}}
    record = record_of(tmp_path, workflow(1), outputs)
    assert (record["frames_sha256"], record["frame_hashes"]) == (known, None)
    assert not (tmp_path / "sheet.png").exists()


def test_the_bundled_workflow_has_its_settings_and_the_negative_that_was_used(tmp_path):
    outputs = {"prompt": REPORT, "save_frames": {"images": [entry("f.png")]}}
    models = {"wan_reference_dit_f16.gguf": "e" * 64}
    record = record_of(tmp_path, load_workflow(), outputs, models)
    assert (record["language"], record["settings"]["negative"]) == ("en", "bad things")
    assert record["models"]["wan_reference_dit_f16.gguf"] == "e" * 64
    assert record["models"]["wan_reference_vae.safetensors"] is None  # on another machine
    assert record["job"] == {"number": 7, "name": "name", "key": "ab" * 32, "attempt": 1, "run_s": 2.0}


def test_files_that_were_found_again_have_a_record_too(tmp_path):
    """What the nodes had shown is gone with the server's history."""
    record = record_of(tmp_path, load_workflow(), {"save_frames": {"images": [entry("f.png")]}})
    assert "settings" not in record and record["workflow"]["prompt"]["class_type"] == "WanGGUFPrompt"
    assert set(record["models"]) >= {"wan_reference_dit_f16.gguf"}


@pytest.mark.parametrize(("codec", "end"), [("h264", "mp4"), ("vp9", "webm"), ("ffv1", "mkv")])
def test_the_tiles_of_files_that_were_found_again_are_in_their_tags(tmp_path, codec, end):
    made = {"save": {"class_type": "WanGGUFSaveVideo", "inputs": {}}, "other": workflow(1)["save"]}
    outputs = {"save": {"images": [entry(f"a.{end}")]}, "other": {"images": [entry(f"b.{end}")]}}
    tiles, format_ = {"tile_px": 256, "overlap_px": 64}, video_format(codec, -1, "auto", 0, 16)
    for name, tag in (("save", {"video": {"tiling": tiles}}), ("other", {"video": {"tiling": "off"}})):
        with VideoWriter(tmp_path / f"{name}.{end}", format_, 32, 32, {"wan_gguf": tag}) as video:
            video.write(torch.zeros(1, 32, 32, 3))
            video.finish()
    for known, expected in ((outputs, tiles), ({**outputs, "save": TOLD | outputs["save"]}, "off")):
        files = wanted_files(known)
        finish_folder(tmp_path, job(made, known), files, Conditions(FACTS, {}, {}), {})
        assert read_record(tmp_path / "settings.json")["tiling"] == {"save": expected}


def test_a_video_without_our_tag_tells_nothing(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", video_format("h264", -1, "auto", 0, 16), 32, 32, {"wan_gguf": 5}) as video:
        video.write(torch.zeros(1, 32, 32, 3))
        video.finish()
    (tmp_path / "b.mp4").write_bytes(b"no video")
    assert own_tag(tmp_path / "a.mp4") == own_tag(tmp_path / "b.mp4") == own_tag(tmp_path / "gone.mp4") == {}


def test_every_picture_is_read_also_those_that_neither_sheet_nor_hash_need(tmp_path):
    outputs = {"a": {"images": [entry("a.png")]}, "b": {"images": [entry("b.png")]}}
    (tmp_path / "a.png").write_bytes(png(1))
    (tmp_path / "b.png").write_bytes(png(2)[:45])
    with pytest.raises(DamagedFileError, match=r"^b\.png: "):
        finish_folder(tmp_path, job(workflow(1), outputs), wanted_files(outputs), Conditions(FACTS, {}, {}), {})

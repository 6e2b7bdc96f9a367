"""What a result's record holds, from a run that is made up here; test_demo_end_to_end.py has a real one."""

import hashlib

import pytest
from PIL import Image

from wan_gguf.cli.client import Result
from wan_gguf.cli.errors import CliError
from wan_gguf.cli.output import file_sha256
from wan_gguf.cli.record import (
    asked_for,
    frame_hashes,
    make_record,
    model_hashes,
    read_prompt_report,
    remote_conditions,
    told_frames_sha256,
)
from wan_gguf.cli.workflow import load_workflow, model_files, with_settings

STATS = {
    "system": {"os": "linux", "comfyui_version": "0.30.0", "pytorch_version": "2.11.0", "python_version": "3.12.3 (x)"},
    "devices": [{"name": "cpu"}],
}
FRAMES = [Image.new("RGB", (4, 2), colour) for colour in ("red", "blue")]


def result(text="中文 (zh)\n- 模糊") -> Result:
    """What a run of the bundled workflow leaves, as far as a record needs it."""
    return Result({"prompt": {"text": [text]}}, {}, {})


def test_the_prompt_nodes_display_gives_language_and_negative():
    assert read_prompt_report({"text": ["中文 (zh)\n- 模糊\n第二行 (en)"]}) == ("zh", "模糊\n第二行 (en)")
    assert read_prompt_report({"text": ["English (en)\n- "]}) == ("en", "")


@pytest.mark.parametrize("output", [{}, {"text": ["English"]}])
def test_a_prompt_node_without_a_report_is_an_error(output):
    with pytest.raises(CliError, match="did not report language"):
        read_prompt_report(output)


def test_a_record_of_the_bundled_workflow():
    workflow = with_settings(load_workflow(), {"seed": 5, "prompt": "红"})
    record = make_record(workflow, result(), FRAMES, b"mp4", {"m.gguf": "0" * 64}, remote_conditions(STATS))
    pixels = [bytes([255, 0, 0] * 8), bytes([0, 0, 255] * 8)]
    assert record["frames_sha256"] == hashlib.sha256(b"".join(pixels)).hexdigest()
    assert record["frame_hashes"] == [hashlib.sha256(one).hexdigest()[:16] for one in pixels] == frame_hashes(FRAMES)
    assert record["video_sha256"] == hashlib.sha256(b"mp4").hexdigest()
    assert record["settings"]["seed"] == 5 and record["settings"]["negative"] == "模糊" and record["language"] == "zh"
    assert record["versions"] == {"comfyui": "0.30.0", "torch": "2.11.0", "python": "3.12.3"}
    assert (record["device"], record["platform"], record["threads"]) == ("cpu", "linux", None)
    assert record["record_version"] == 1 and record["workflow"] == workflow
    assert record["nodes"] == {"video": "save_video", "frames": "save_frames"}


def test_another_workflow_has_no_settings_of_the_demos():
    workflow = {"image": {"class_type": "EmptyImage", "inputs": {"width": 64}}}
    assert asked_for(workflow, Result({}, {}, {})) == {}
    record = make_record(workflow, Result({}, {}, {}), FRAMES, None, {}, remote_conditions(STATS))
    assert "settings" not in record and record["video_sha256"] is None


def test_the_hash_that_the_streaming_node_tells():
    one, other = {"wan_gguf": [{"frames_sha256": "c" * 64}]}, {"wan_gguf": [{"frames_sha256": "d" * 64}]}
    assert told_frames_sha256({"save": one, "prompt": {"text": ["x"]}}) == "c" * 64
    assert told_frames_sha256({"save": one, "again": other}) is None  # of two videos it is not known which is meant
    for odd in ({"wan_gguf": ["edited"]}, {"wan_gguf": 5}, {"wan_gguf": None}, [one], None):
        assert told_frames_sha256({"save": odd}) is None and told_frames_sha256({"save": one, "odd": odd}) == "c" * 64


def test_model_hashes_are_of_the_first_folder_that_has_the_file(tmp_path):
    workflow = load_workflow()
    bundled = model_files(workflow)
    (tmp_path / bundled[0].name).write_bytes(b"another one")
    hashes = model_hashes(workflow, [tmp_path / "nowhere", tmp_path])
    assert hashes[bundled[0].name] == hashlib.sha256(b"another one").hexdigest()
    assert hashes[bundled[1].name] == file_sha256(bundled[1])
    workflow["model"]["inputs"]["model_name"] = "gone.gguf"
    with pytest.raises(CliError, match=r"'gone.gguf' \(diffusion_models\), which is not in "):
        model_hashes(workflow)

"""A prompt becomes a video in the real host, in English and Chinese; one seed gives the same frames in two servers.

Needs the reference model's files in reference_model/files.
"""

import io
import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from wan_gguf.cli import demo
from wan_gguf.cli.errors import CliError
from wan_gguf.cli.options import parse
from wan_gguf.cli.output import file_sha256
from wan_gguf.cli.terminal import Progress
from wan_gguf.cli.workflow import load_workflow, model_files, with_settings
from wan_gguf.text.negative import DEFAULT_NEGATIVES

ENGLISH, CHINESE = "a red circle moves left", "红色圆形向左移动"
STEPS = 4


def make(server, **settings):
    """Run the bundled workflow on the running server, with few steps."""
    workflow = with_settings(load_workflow(), {"steps": STEPS, **settings})
    return demo.make_video(server, workflow, Progress(io.StringIO()))


@pytest.fixture(scope="module")
def english(server):
    """An English prompt on the server that runs the oddly named copy of the pack."""
    return make(server, prompt=ENGLISH, seed=11)


@pytest.fixture(scope="module")
def chinese(server):
    """The same in Chinese."""
    return make(server, prompt=CHINESE, seed=11)


def test_the_command_writes_the_same_files_as_another_server(english, host_dir, tmp_path, capfd, monkeypatch):
    """On another number of threads, too."""
    monkeypatch.setenv("OMP_NUM_THREADS", str(english["record"]["threads"] + 1))
    monkeypatch.setenv("MKL_DYNAMIC", "FALSE")  # or torch takes no more than there are cores
    arguments = [ENGLISH, "--seed", "11", "--steps", str(STEPS), "--out", str(tmp_path / "输出"), "--json"]
    assert demo.run(parse(arguments), host_dir) == 0
    printed, progress = capfd.readouterr()
    summary = json.loads(printed)
    assert summary["frames_sha256"] == english["record"]["frames_sha256"]
    assert "Sampling 4/4" in progress and "Decoding" in progress
    assert summary["video"] == str(tmp_path / "输出" / "a-red-circle-moves-left_seed11.mp4")
    record = json.loads(Path(summary["record"]).read_text(encoding="utf-8"))
    assert record["files"]["video"] == "a-red-circle-moves-left_seed11.mp4"
    assert record["threads"] == english["record"]["threads"] + 1
    assert Path(summary["video"]).read_bytes() == english["video"]
    assert record["timings"]["server_start_s"] > 0 and record["timings"]["stages_s"]["sampler"] > 0
    with Image.open(summary["contact_sheet"]) as sheet:
        assert sheet.size == (6 * 200 + 8, 16 + 8 + 3 * 216 + 8)


def test_the_record_holds_everything_needed_to_repeat_it(english):
    record = english["record"]
    assert record["language"] == "en"
    assert record["settings"]["prompt"] == ENGLISH
    assert record["settings"]["negative"] == DEFAULT_NEGATIVES["en"]
    assert {record["settings"][name] for name in ("seed", "steps")} == {11, STEPS}
    assert record["models"] == {path.name: file_sha256(path) for path in model_files(load_workflow())}
    assert record["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert all(record["versions"].values()) and record["threads"] >= 1 and record["device"]


def test_a_chinese_prompt_takes_the_chinese_negative(chinese, english):
    record = chinese["record"]
    assert record["language"] == "zh"
    assert record["settings"]["negative"] == DEFAULT_NEGATIVES["zh"]
    assert record["frames_sha256"] != english["record"]["frames_sha256"]
    assert b"ftyp" in chinese["video"][:16]


def test_another_seed_gives_other_frames(server, english):
    other = make(server, prompt=ENGLISH, seed=12)
    assert other["record"]["frames_sha256"] != english["record"]["frames_sha256"]


def test_a_negative_prompt_of_ones_own_is_used_and_recorded(server, english):
    own = make(server, prompt=ENGLISH, seed=11, negative="a blue square\nin two lines")
    assert own["record"]["settings"]["negative"] == "a blue square\nin two lines"
    assert own["record"]["frames_sha256"] != english["record"]["frames_sha256"]


def test_what_only_the_node_can_refuse_is_one_line(server):
    with pytest.raises(CliError, match=r"refused the workflow: prompt: ") as refused:
        make(server, prompt="(red:nan) circle")
    assert "\n" not in str(refused.value)


def test_what_lies_beside_the_pack_was_not_imported(server):
    assert not (server.pack.parent / "imported").exists()

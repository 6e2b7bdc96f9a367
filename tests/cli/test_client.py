"""The client against the real host, with the host's own nodes."""

import sys
from pathlib import Path

import pytest

from wan_gguf.cli.client import ServerGoneError, generate, refusal
from wan_gguf.cli.errors import CliError
from wan_gguf.cli.output import decode_frames
from wan_gguf.cli.server import HostServer

WORKFLOW = {
    "image": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 48, "batch_size": 3, "color": 0x0000FF}},
    "video": {"class_type": "CreateVideo", "inputs": {"images": ["image", 0], "fps": 16.0}},
    "save_video": {
        "class_type": "SaveVideo",
        "inputs": {"video": ["video", 0], "filename_prefix": "video", "format": "mp4", "codec": "h264"},
    },
    "save_frames": {"class_type": "SaveImage", "inputs": {"images": ["image", 0], "filename_prefix": "frame"}},
}


def changed(node: str, **inputs) -> dict:
    """The workflow with other inputs of one node."""
    return {**WORKFLOW, node: {**WORKFLOW[node], "inputs": {**WORKFLOW[node]["inputs"], **inputs}}}


def test_a_workflow_runs_and_its_files_come_back(server):
    seen = []
    result = generate(server.port, WORKFLOW, lambda *progress: seen.append(progress), ("save_frames", "save_video"))
    frames = decode_frames(result.files["save_frames"])
    assert [frame.size for frame in frames] == [(64, 48)] * 3
    assert frames[0].getcolors() == [(64 * 48, (0, 0, 255))]
    assert [b"ftyp" in video[:16] for video in result.files["save_video"]] == [True]
    assert {node for node, _, _ in seen} == set(result.stage_s) == set(WORKFLOW)
    assert all(seconds >= 0 for seconds in result.stage_s.values())


@pytest.mark.parametrize(
    ("workflow", "message"),
    [
        (changed("image", width=-1), "refused the workflow: image: width: Value -1 smaller than min of 1"),
        (changed("save_frames", images=["nowhere", 0]), "refused the workflow: save_frames: "),
        ({"x": {"class_type": "NoSuchNode", "inputs": {}}}, "refused the workflow: .*NoSuchNode"),
        ({}, "refused the workflow: Prompt has no outputs"),
    ],
)
def test_a_refused_workflow_is_one_line_with_the_hosts_reason(server, workflow, message):
    with pytest.raises(CliError, match=message) as refused:
        generate(server.port, workflow, lambda *_: None)
    assert "\n" not in str(refused.value)


def test_a_node_that_fails_is_named_with_its_reason(server):
    inputs = {"string": "x", "regex_pattern": "(", "replace": ""}
    workflow = {
        "regex": {"class_type": "RegexReplace", "inputs": inputs},
        "show": {"class_type": "PreviewAny", "inputs": {"source": ["regex", 0]}},
    }
    with pytest.raises(CliError, match=r"^regex \(RegexReplace\) failed: .*unterminated subpattern") as failed:
        generate(server.port, workflow, lambda *_: None)
    assert "\n" not in str(failed.value)


def test_a_server_that_ends_during_the_run_is_noticed(fake_host):
    with HostServer(Path(sys.executable), fake_host) as running, pytest.raises(ServerGoneError):
        generate(running.port, WORKFLOW, lambda *_: None)  # the fake host knows no websocket
    with pytest.raises(ServerGoneError):
        generate(running.port, WORKFLOW, lambda *_: None)


def test_node_errors_come_before_the_general_message():
    answer = {
        "error": {"message": "Prompt outputs failed validation"},
        "node_errors": {
            "latent": {"errors": [{"message": "m", "details": "frames must be odd"}, {"message": "other"}]}
        },
    }
    assert refusal(answer) == "latent: frames must be odd; latent: other"
    assert refusal({"error": {"message": "only this"}, "node_errors": {}}) == "only this"
    assert refusal({}) == "no reason was given"

"""Save Video in a real server, the server killed in the middle of a decode, and the job finished from its latent."""

import io
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from wan_gguf.cli import decode
from wan_gguf.cli.command_decode import parser
from wan_gguf.cli.demo import run_workflow
from wan_gguf.cli.errors import CliError
from wan_gguf.cli.output import decode_frames, frames_sha256
from wan_gguf.cli.server import HostServer
from wan_gguf.cli.terminal import Progress
from wan_gguf.cli.workflow import load_workflow, with_settings

LONG = {"frames": 121, "width": 128, "height": 128}  # the file appears after about 50 frames, which x264 looks ahead


def with_save_video(**settings):
    """The bundled workflow, one step, without its images, with its latent."""
    workflow = with_settings(load_workflow(), {"steps": 1, "seed": 5, **settings})
    del workflow["save_frames"]
    defaults = {"filename_prefix": "子 a/片", **decode.DEFAULTS, "images": False, "keep_latent": True}
    workflow["save_video"]["inputs"] |= defaults
    return workflow


def with_frames(workflow):
    """The same, with the host's Save Image behind our images output."""
    workflow["save_video"]["inputs"] |= {"images": True, "codec": "ffv1"}
    workflow["frames"] = {
        "class_type": "SaveImage",
        "inputs": {"images": ["save_video", 1], "filename_prefix": "frames"},
    }
    return workflow


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    return tmp_path_factory.mktemp("output") / "输出 1"


@pytest.fixture(scope="module")
def running(host_dir, output):
    """A real server; the last test of this file kills it."""
    with HostServer(Path(sys.executable), host_dir, ["WanGGUFSaveVideo"], output=output) as server:
        yield server


def queue(server, workflow, fetch=()):
    return run_workflow(server, workflow, Progress(io.StringIO()), fetch)


@pytest.fixture(scope="module")
def short(running):
    """A job of 17 frames, with the images."""
    return queue(running, with_frames(with_save_video()), ("save_video", "frames"))


def test_history_and_view_have_the_video_as_of_the_hosts_save_video(short, output):
    shown = short.outputs["save_video"]
    assert shown["images"] == [{"filename": "片_00001_.mkv", "subfolder": "子 a", "type": "output"}]
    assert shown["animated"] == [True]
    assert short.files["save_video"] == [(output / "子 a" / "片_00001_.mkv").read_bytes()]


def test_the_frames_are_those_of_the_hosts_save_image(short):
    (record,) = short.outputs["save_video"]["wan_gguf"]
    frames = decode_frames(short.files["frames"])
    assert len(frames) == record["frames"] == 17
    assert record["frames_sha256"] == frames_sha256(frames)
    assert record["sampling"]["steps"] == 1 and record["vae_name"] == "wan_reference_vae.safetensors"


def test_values_that_do_not_go_together_are_refused_before_anything_is_sampled(running):
    workflow = with_save_video()
    workflow["save_video"]["inputs"] |= {"codec": "ffv1", "crf": 10}
    with pytest.raises(CliError, match=r"refused the workflow: save_video: .*ffv1 loses nothing"):
        queue(running, workflow)


def wait_for(condition, seconds=300):
    """What `condition()` gives once it is true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)
    return found


def test_a_server_killed_while_it_decodes_costs_nothing(running, short, output, host_dir, capsys, tmp_path):
    whole = queue(running, with_save_video(**LONG)).outputs["save_video"]["wan_gguf"][0]
    folder = output / "子 a"
    before = set(folder.iterdir())
    failures = []
    workflow = with_save_video(**LONG)
    workflow["save_video"]["inputs"]["crf"] = 20  # or the host would not run it again

    def run():
        try:
            queue(running, workflow)
        except CliError as failure:
            failures.append(str(failure))

    job = threading.Thread(target=run)
    job.start()

    def new(suffix):
        return [path for path in set(folder.iterdir()) - before if path.suffix == suffix]

    (latent,) = wait_for(lambda: new(".latent"))
    wait_for(lambda: not new(".part"))  # the latent is complete
    wait_for(lambda: new(".part"))  # the video grows
    os.killpg(running._process.pid, signal.SIGKILL)
    job.join(60)
    assert failures and not new(".mp4") and len(new(".part")) == 1

    out = tmp_path / "结果 b"
    arguments = [str(latent), "--out", str(out), "--json", "--crf", "-1"]
    assert decode.run(parser().parse_args(arguments), host_dir) == 0
    (made,) = json.loads(capsys.readouterr().out)["videos"]
    assert made["frames_sha256"] == whole["frames_sha256"]
    assert Path(made["video"]) == out / f"{latent.stem}.mp4"
    record = json.loads(Path(made["record"]).read_text(encoding="utf-8"))
    assert record["sampling"] == whole["sampling"] and record["video"] == whole["video"]
    assert sorted(path.name for path in out.iterdir()) == [f"{latent.stem}.json", f"{latent.stem}.mp4"]
    assert latent.exists()

"""A prompt list in a real server that is killed while the first video is decoded: the other rows are on the disk."""

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
from wan_gguf.cli.server import HostServer
from wan_gguf.cli.terminal import Progress
from wan_gguf.cli.workflow import load_workflow, with_settings

ROWS = ["a red circle moves left,1,circle", "a blue square moves up,2,square", "一个绿色的三角形向右移动,3,三角形"]


def with_list(*rows, codec="ffv1"):
    """The bundled workflow with a prompt list before it; with ffv1 the file grows from the first frame on."""
    workflow = with_settings(load_workflow(), {"steps": 1, "frames": 33})
    del workflow["save_frames"]
    settings = {"seed_policy": "from the row", "seed": 0, "negative": "", "cfg": 4.0, "steps": 1}
    size = {"width": 64, "height": 64, "frames": 33, "name_prefix": "列 list/"}
    text = {"text": "\n".join(["prompt,seed,name", *rows]), "kind": "csv", "list_name": "none"}
    workflow["list"] = {"class_type": "WanGGUFPromptList", "inputs": {**text, **settings, **size}}
    workflow["prompt"]["inputs"]["positive"] = ["list", 0]
    workflow["sampler"]["inputs"]["seed"] = ["list", 2]
    workflow["save_video"]["inputs"] |= {"filename_prefix": ["list", 8], "codec": codec, "images": False}
    return workflow


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    return tmp_path_factory.mktemp("output") / "输出 1"


@pytest.fixture
def running(host_dir, output):
    """A real server, which the test kills."""
    with HostServer(Path(sys.executable), host_dir, ["WanGGUFPromptList"], output=output) as server:
        yield server


def latents(folder):
    return sorted(path.name for path in folder.glob("*.latent"))


def wait_for(job, condition):
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline and job.is_alive(), "it did not happen"
        time.sleep(0.005)


def killed_while_it_decodes(server, workflow, folder):
    """Queue the workflow and kill the server as soon as there is a part of a video in the folder."""
    failures = []

    def run():
        try:
            run_workflow(server, workflow, Progress(io.StringIO()), ())
        except CliError as failure:
            failures.append(str(failure))

    job = threading.Thread(target=run)
    job.start()
    wait_for(job, lambda: latents(folder))
    wait_for(job, lambda: not list(folder.glob(".*.part")))  # the latent is complete
    wait_for(job, lambda: list(folder.glob(".*.part")))
    os.killpg(server._process.pid, signal.SIGKILL)
    job.join(60)
    assert failures


def test_the_rows_behind_the_one_that_was_decoded_are_finished_from_their_files(
    running, output, host_dir, capsys, tmp_path
):
    alone = run_workflow(running, with_list(ROWS[2]), Progress(io.StringIO()), ()).outputs["save_video"]["wan_gguf"][0]
    assert not list((output / "wan_gguf").rglob("*.latent"))
    folder, rest = output / "列 list", output / "wan_gguf" / "unfinished_list"
    (folder / "三角形_00001_.mkv").unlink()
    killed_while_it_decodes(running, with_list(*ROWS), folder)
    assert latents(folder) == ["circle_00001_.latent"]
    assert latents(rest) == ["row_0002_square_00001_.latent", "row_0003_三角形_00001_.latent"]

    arguments = [str(rest / "row_0003_三角形_00001_.latent"), "--out", str(tmp_path / "结果"), "--json"]
    assert decode.run(parser().parse_args(arguments), host_dir) == 0
    (made,) = json.loads(capsys.readouterr().out)["videos"]
    assert made["frames_sha256"] == alone["frames_sha256"] and Path(made["video"]).suffix == ".mkv"

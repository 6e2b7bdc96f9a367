"""A batch with a server of its own: started, started again when it dies, given up when it dies every time."""

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from wan_gguf.cli.batch_run import Runner
from wan_gguf.cli.batch_server import RESTARTS, LocalServer
from wan_gguf.cli.batch_stop import Stop
from wan_gguf.cli.batch_store import opened_store
from wan_gguf.cli.batch_view import BatchView
from wan_gguf.cli.errors import CliError
from wan_gguf.cli.server import HostServer
from wan_gguf.tests.cli.batch_case import colours, start_client
from wan_gguf.tests.cli.fake_comfy import workflow, write_fake_host

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
N_JOBS = 6


@pytest.fixture
def made() -> list[HostServer]:
    """The servers that were made, in order."""
    return []


def run(tmp_path, made: list[HostServer], on_ended, run_s=0.05) -> list[str]:
    """A batch on a fake host; `on_ended(job)` is called for each job that is done. Returns what was said."""
    host, said = write_fake_host(tmp_path / "host", run_s), []

    def make() -> HostServer:
        made.append(HostServer(Path(sys.executable), host, output=tmp_path / "out" / ".server"))
        return made[-1]

    async def batch() -> None:
        with opened_store(tmp_path / "out") as store:
            store.sync(colours(N_JOBS))
            view = BatchView(N_JOBS, 0)
            view.note, view.ended = said.append, lambda job, how: on_ended(job)
            server = LocalServer(make, said.append)
            try:
                await asyncio.wait_for(Runner(store, tmp_path / "out", server, view, Stop(said.append), 2).run(), 300)
            finally:
                server.close()
            assert store.counts()["done"] == N_JOBS

    asyncio.run(batch())
    return said


def kill(server: HostServer) -> None:
    assert server._process is not None
    os.kill(server._process.pid, signal.SIGKILL)


def test_a_server_that_dies_is_started_again_and_no_job_is_lost(tmp_path, made):
    ended = []

    def on_ended(job) -> None:
        ended.append(job.number)
        if len(ended) == 2:
            kill(made[-1])

    said = run(tmp_path, made, on_ended)
    assert len(made) == 2 and "ComfyUI ended; starting it again" in said
    assert sorted(ended) == list(range(1, N_JOBS + 1))
    assert not any(server.is_running() for server in made)


def test_a_server_that_dies_every_time_is_given_up_with_its_log(tmp_path, made, monkeypatch):
    start = HostServer.start

    def start_and_die(self) -> None:
        start(self)
        kill(self)

    monkeypatch.setattr(HostServer, "start", start_and_die)
    with pytest.raises(CliError, match=rf"ComfyUI ended {RESTARTS + 1} times in a row; nothing is lost"):
        run(tmp_path, made, lambda job: None)
    assert len(made) == RESTARTS + 1


def test_ctrl_c_fetches_the_job_that_runs_and_the_same_command_goes_on(tmp_path, root):
    host = write_fake_host(tmp_path / "host", 1.0)
    jobs, out, log = tmp_path / "jobs", tmp_path / "out", tmp_path / "log"
    jobs.mkdir()
    for number in range(1, 5):
        (jobs / f"job{number}.json").write_text(json.dumps(workflow(number)))
    client = start_client(root, host, log, jobs, "--local", "--out", out)
    try:
        while not list(out.glob("0001-*")):
            assert client.poll() is None, log.read_text()
            time.sleep(0.02)
        client.send_signal(signal.SIGINT)
        assert client.wait(300) == 130
        said = log.read_text(encoding="utf-8").splitlines()
        assert said[-2:] == ["what is left stays in the list: the same command goes on", "error: stopped by Ctrl-C"]
        n_done = len(list(out.glob("000?-*")))
        assert f"{n_done} done, 0 failed, {4 - n_done} left: {out}" in said and n_done < 4
        client = start_client(root, host, log, jobs, "--local", "--out", out)
        assert client.wait(300) == 0, log.read_text()
    finally:
        client.kill()
        client.wait()
    assert [path.name for path in sorted(out.glob("000?-*"))] == [f"000{number}-job{number}" for number in range(1, 5)]
    assert not list((out / ".server").glob("wan_gguf_batch/*/*"))

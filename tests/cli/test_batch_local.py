"""A batch with a server of its own: started, started again when it dies, given up when it dies every time."""

import asyncio
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import aiohttp
import pytest

from wan_gguf.cli import batch_api, batch_run, batch_server
from wan_gguf.cli import server as server_module
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


def run(tmp_path, made: list[HostServer], on_ended, run_s=0.05, n_done=N_JOBS) -> list[str]:
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
            assert store.counts()["done"] == n_done and not store.counts()["failed"]

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

    def start_and_die(self, stopping) -> None:
        start(self, stopping)
        kill(self)

    monkeypatch.setattr(HostServer, "start", start_and_die)
    with pytest.raises(CliError, match=rf"ComfyUI ended {RESTARTS + 1} times in a row; nothing is lost"):
        run(tmp_path, made, lambda job: None)
    assert len(made) == RESTARTS + 1


def impatient(monkeypatch) -> None:
    """A server that hangs is noticed soon."""
    monkeypatch.setattr(batch_api, "HEARTBEAT_S", 3.0)
    monkeypatch.setattr(batch_api, "_ANSWER", aiohttp.ClientTimeout(total=3.0))
    monkeypatch.setattr(batch_api, "_FILE", aiohttp.ClientTimeout(sock_read=3.0))
    monkeypatch.setattr(server_module, "ANSWER_LIMIT_S", 3.0)
    monkeypatch.setattr(server_module, "STOP_LIMIT_S", 0.5)


def test_a_server_that_hangs_is_killed_and_started_again(tmp_path, made, monkeypatch):
    monkeypatch.setattr(batch_server, "DEAF_S", 3.0)
    impatient(monkeypatch)
    ended, hung = [], []

    def on_ended(job) -> None:
        ended.append(job.number)
        if len(ended) == 2:
            hung.append(made[-1]._process)
            os.kill(hung[0].pid, signal.SIGSTOP)

    said = run(tmp_path, made, on_ended)
    assert len(made) == 2 and "ComfyUI did not answer for 3 s; starting it again" in said
    assert sorted(ended) == list(range(1, N_JOBS + 1))
    assert hung[0].poll() is not None and not any(server.is_running() for server in made)


def test_a_server_that_is_deaf_for_less_is_not_started_again(tmp_path, made, monkeypatch):
    monkeypatch.setattr(batch_api, "HEARTBEAT_S", 1.0)

    def on_ended(job) -> None:
        if job.number == 2:
            process = made[-1]._process
            os.kill(process.pid, signal.SIGSTOP)
            threading.Timer(3.0, os.kill, (process.pid, signal.SIGCONT)).start()

    said = run(tmp_path, made, on_ended)
    assert len(made) == 1 and not any("starting it again" in text for text in said)


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_leaves_a_server_that_hangs_within_seconds(tmp_path, made, monkeypatch, times):
    monkeypatch.setattr(batch_run, "LEAVE_S", 1.0)
    impatient(monkeypatch)
    stops: list[Stop] = []

    def ask() -> None:
        for _ in range(times):
            stops[-1].count += 1
            loop.call_soon_threadsafe(stops[-1].poke)

    class Kept(Stop):
        def __init__(self, say):
            super().__init__(say)
            stops.append(self)

    def on_ended(job) -> None:
        nonlocal loop, asked_at
        if job.number == 2:
            loop, asked_at = asyncio.get_running_loop(), time.monotonic() + 0.5
            os.kill(made[-1]._process.pid, signal.SIGSTOP)
            threading.Timer(0.5, ask).start()

    loop, asked_at = None, 0.0
    monkeypatch.setattr(sys.modules[__name__], "Stop", Kept)
    run(tmp_path, made, on_ended, n_done=2)
    assert time.monotonic() - asked_at < 30 and not made[-1].is_running()


def test_ctrl_c_while_the_server_starts_ends_it_at_once(tmp_path, root, is_alive):
    host, jobs, log = tmp_path / "host", tmp_path / "jobs", tmp_path / "log"
    host.mkdir()
    jobs.mkdir()
    (host / "main.py").write_text(
        "import os, pathlib, time\n"
        "pathlib.Path(__file__).with_name('pid.part').write_text(str(os.getpid()))\n"
        "os.rename(pathlib.Path(__file__).with_name('pid.part'), pathlib.Path(__file__).with_name('pid'))\n"
        "time.sleep(600)\n"
    )
    (jobs / "job1.json").write_text(json.dumps(workflow(1)))
    client = start_client(root, host, log, jobs, "--local", "--out", tmp_path / "out")
    try:
        while not (host / "pid").exists():
            assert client.poll() is None, log.read_text()
            time.sleep(0.02)
        client.send_signal(signal.SIGINT)
        assert client.wait(60) == 130
    finally:
        client.kill()
        client.wait()
    assert "what is left stays in the list" in log.read_text(encoding="utf-8")
    assert not is_alive(int((host / "pid").read_text()))


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

"""Jobs on a real ComfyUI, with client and server killed (SIGKILL) in the middle: none lost, none done twice.

The jobs are the host's own quick nodes, EmptyImage -> SaveImage, each with a colour of its own. What the server ran is
counted by the files in its output folder: it numbers them, so a second run of a job leaves a second file.
"""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from wan_gguf.cli.server import _free_port
from wan_gguf.tests.cli.batch_case import start_client

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

AHEAD = 4


class LiveServer:
    """A ComfyUI as a user runs it: it does not end with the client, and keeps its port and output over restarts."""

    def __init__(self, host_dir: Path, folder: Path):
        self.host_dir, self.folder, self.port = host_dir, folder, _free_port()
        self.output = folder / "output"
        for name in ("custom_nodes", "input", "models", "output", "temp", "user"):
            (folder / name).mkdir(parents=True)
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        arguments = ["--cpu", "--listen", "127.0.0.1", "--port", str(self.port), "--base-directory", str(self.folder)]
        arguments += ["--database-url", "sqlite:///:memory:", "--disable-auto-launch", "--disable-api-nodes"]
        with open(self.folder / "log.txt", "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(self.host_dir / "main.py"), *arguments, "--disable-all-custom-nodes"],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
            )

    def wait(self) -> None:
        for _ in range(3000):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/system_stats", timeout=5).close()
                return
            except OSError:
                assert self.process is not None and self.process.poll() is None, (self.folder / "log.txt").read_text()
                time.sleep(0.1)
        pytest.fail("ComfyUI did not start")

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def runs(self) -> Counter:
        """Job's folder without its attempt -> how many files the server has written for it."""
        files = (self.output / "wan_gguf_batch").glob("*/*.png")
        return Counter(file.parent.name.partition("-")[0] for file in files)


@pytest.fixture
def live(host_dir, tmp_path):
    server = LiveServer(host_dir, tmp_path / "server")
    server.start()
    try:
        server.wait()
        yield server
    finally:
        server.kill()


def write_jobs(folder: Path, count: int) -> Path:
    """A folder of workflows, number i with an image of colour i."""
    folder.mkdir()
    for number in range(1, count + 1):
        image = {"width": 64, "height": 64, "batch_size": 1, "color": number}
        workflow = {
            "image": {"class_type": "EmptyImage", "inputs": image},
            "save": {"class_type": "SaveImage", "inputs": {"images": ["image", 0], "filename_prefix": "x"}},
        }
        (folder / f"{number}.json").write_text(json.dumps(workflow))
    return folder


def done_jobs(out: Path) -> set[str]:
    """The keys of the jobs that are done, as the store has them on the disk."""
    try:
        with sqlite3.connect(f"file:{out / 'batch.sqlite'}?mode=ro", uri=True, timeout=30) as connection:
            return {row[0] for row in connection.execute("SELECT key FROM jobs WHERE state = 'done'")}
    except sqlite3.OperationalError:
        return set()  # not made yet


def wait_for(out: Path, count: int, client: subprocess.Popen, log: Path) -> None:
    while len(done_jobs(out)) < count:
        assert client.poll() is None, log.read_text()
        time.sleep(0.02)


def check(out: Path, count: int) -> None:
    """Every job has exactly one folder, with its own picture and a record."""
    folders = sorted(path for path in out.iterdir() if path.is_dir())
    assert len(folders) == count
    seen = set()
    for folder in folders:
        number = int(folder.name.partition("-")[2])
        with Image.open(folder / "save.png") as image:
            red, green, blue = image.getpixel((0, 0))
        assert red << 16 | green << 8 | blue == number
        record = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
        assert record["workflow"]["image"]["inputs"]["color"] == number
        seen.add(record["job"]["key"])
    assert len(seen) == count


def campaign(live: LiveServer, root: Path, tmp_path: Path, count: int, client_kills: int, server_kills: int) -> dict:
    """Kill the client, then the server, in turn at even distances; returns what it cost."""
    jobs, out, log = write_jobs(tmp_path / "jobs", count), tmp_path / "out", tmp_path / "client.log"
    arguments = [jobs, "--server", f"http://127.0.0.1:{live.port}", "--out", out, "--ahead", AHEAD]
    begin = time.monotonic()
    kills = ["client", "server"] * max(client_kills, server_kills)
    kills = [
        who for number, who in enumerate(kills) if number // 2 < (client_kills if who == "client" else server_kills)
    ]
    settled: dict[str, int] = {}  # job that was done at a kill -> how often it had been run by then
    client = start_client(root, live.host_dir, log, *arguments)
    try:
        for number, who in enumerate(kills, start=1):
            wait_for(out, count * number // (len(kills) + 1), client, log)
            if who == "client":
                client.kill()
                client.wait()
                client = start_client(root, live.host_dir, log, *arguments)
            else:
                live.kill()
                runs = live.runs()
                settled |= {key[:16]: runs[key[:16]] for key in done_jobs(out)}
                live.start()
        assert client.wait(600) == 0, log.read_text()
    finally:
        client.kill()
        client.wait()
    check(out, count)
    runs = live.runs()
    assert set(runs) == {key[:16] for key in done_jobs(out)}
    assert {key: runs[key] for key in settled} == settled, "a job that was done was run again"
    return {"seconds": time.monotonic() - begin, "run_twice": sum(runs.values()) - count}


def test_sixty_jobs_with_client_and_server_killed(live, root, tmp_path):
    cost = campaign(live, root, tmp_path, 60, client_kills=1, server_kills=1)
    assert cost["run_twice"] <= AHEAD  # at most what was on the server, unfetched, when it was killed


@pytest.mark.long
def test_a_thousand_jobs_with_five_kills_of_each(live, root, tmp_path, capsys):
    cost = campaign(live, root, tmp_path, 1000, client_kills=5, server_kills=5)
    with capsys.disabled():
        sys.stdout.write(f"\n1000 jobs, 10 kills: {cost['seconds']:.0f} s, {cost['run_twice']} begun again\n")
    assert cost["run_twice"] <= 5 * AHEAD


@pytest.mark.long
def test_a_server_of_its_own_is_started_again_when_it_dies(host_dir, root, tmp_path):
    jobs, out, log = write_jobs(tmp_path / "jobs", 400), tmp_path / "out", tmp_path / "client.log"
    client = start_client(root, host_dir, log, jobs, "--local", "--out", out)
    try:
        wait_for(out, 5, client, log)
        children = subprocess.run(["pgrep", "-P", str(client.pid)], capture_output=True, text=True).stdout.split()
        os.kill(int(children[0]), signal.SIGKILL)
        at_death = len(done_jobs(out))
        wait_for(out, at_death + 30, client, log)
        client.send_signal(signal.SIGINT)
        assert client.wait(120) == 130, log.read_text()
    finally:
        client.kill()
        client.wait()
    assert "ComfyUI ended; starting it again" in log.read_text()
    count = len(done_jobs(out))
    assert len([path for path in out.iterdir() if path.is_dir() and path.name != ".server"]) == count
    assert not list((out / ".server" / "wan_gguf_batch").glob("*/*"))  # fetched, so not kept twice

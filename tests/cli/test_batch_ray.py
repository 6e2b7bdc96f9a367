"""A batch on a Ray cluster of several nodes on this machine, one of which is killed in the middle.

Ray is an optional package: pip install ray. The quick test's ComfyUI is the fake one, started by the real HostServer on
every node; the long one runs the real ComfyUI.
"""

import argparse
import io
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from wan_gguf.cli import batch_ray
from wan_gguf.cli.batch_stop import Stop
from wan_gguf.cli.batch_store import opened_store
from wan_gguf.cli.batch_view import BatchView
from wan_gguf.tests.cli.fake_comfy import workflow, write_fake_host

ray = pytest.importorskip("ray", reason="Ray is not installed: it is an optional package")
NODES = 3


@pytest.fixture
def cluster(monkeypatch):
    """A head without room for workers, and nodes with room for one each."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_worker_niceness", "0")  # its workers would starve beside other work of this machine
    monkeypatch.setenv("RAY_health_check_initial_delay_ms", "0")
    monkeypatch.setenv("RAY_health_check_period_ms", "500")
    monkeypatch.setenv("RAY_health_check_failure_threshold", "3")
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        made.nodes_to_lose = [made.add_node(num_cpus=1) for _ in range(NODES)]
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


@pytest.fixture
def fake_host_dir(tmp_path) -> Path:
    return write_fake_host(tmp_path / "host", run_s=0.3)  # so that a node can be killed in the middle


def options(cluster, out: Path, workers: int) -> argparse.Namespace:
    return argparse.Namespace(ray=cluster.address, out=out, workers=workers, models=None, input=None, patience=600.0)


def kill_a_node_when(cluster, store_file: Path, done: int) -> threading.Thread:
    """Kill everything of one node once so many jobs are done, as a power cut does."""
    import sqlite3

    def watch() -> None:
        count = 0
        while count < done:
            time.sleep(0.05)
            with sqlite3.connect(f"file:{store_file}?mode=ro", uri=True, timeout=30) as connection:
                count = connection.execute("SELECT count(*) FROM jobs WHERE state = 'done'").fetchone()[0]
        cluster.remove_node(cluster.nodes_to_lose[0], allow_graceful=False)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def run_batch(cluster, host: Path, out: Path, jobs: list, kill_after: int | None, workers=NODES) -> io.StringIO:
    """The whole batch; returns what it showed."""
    shown = io.StringIO()
    with opened_store(out) as store:
        store.sync(jobs)
        view = BatchView(len(jobs), 0, shown)
        thread = kill_a_node_when(cluster, out / "batch.sqlite", kill_after) if kill_after is not None else None
        batch_ray.run_on_ray(store, options(cluster, out, workers), host, view, Stop(view.note))
        if thread is not None:
            thread.join(60)
            assert not thread.is_alive(), "the jobs were done before a node could be killed"
        assert store.counts() == {"waiting": 0, "queued": 0, "made": 0, "done": len(jobs), "failed": 0}, (
            shown.getvalue()
        )
    return shown


def check_folders(out: Path, count: int) -> None:
    folders = sorted(path for path in out.iterdir() if path.is_dir())
    assert [folder.name for folder in folders] == [f"{number:04d}-job{number}" for number in range(1, count + 1)]
    for number, folder in enumerate(folders, start=1):
        with Image.open(folder / "save.png") as image:
            assert image.getpixel((0, 0)) == (0, 0, number)
        assert json.loads((folder / "settings.json").read_text(encoding="utf-8"))["job"]["number"] == number


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_node_killed_in_the_middle_loses_no_job(cluster, fake_host_dir, tmp_path):
    jobs = [(f"job{number}", workflow(number)) for number in range(1, 31)]
    run_batch(cluster, fake_host_dir, tmp_path / "out", jobs, kill_after=6)
    check_folders(tmp_path / "out", 30)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.long
def test_a_node_killed_in_the_middle_of_real_servers(cluster, host_dir, tmp_path):
    jobs = [(f"job{number}", workflow(number)) for number in range(1, 61)]
    run_batch(cluster, host_dir, tmp_path / "out", jobs, kill_after=10)
    check_folders(tmp_path / "out", 60)


@pytest.mark.long
def test_how_the_time_falls_with_the_nodes(cluster, fake_host_dir, tmp_path, capsys):
    """A figure for docs/scale.md: 30 jobs of 0.3 s, from the first one that ends to the last."""
    for workers in range(1, NODES + 1):
        jobs = [(f"job{number}", workflow(number)) for number in range(1, 31)]
        shown = run_batch(cluster, fake_host_dir, tmp_path / f"out{workers}", jobs, None, workers).getvalue()
        times = [os.stat(folder).st_mtime for folder in (tmp_path / f"out{workers}").iterdir() if folder.is_dir()]
        assert len(times) == 30 and shown.count(": done") == 30
        with capsys.disabled():
            sys.stdout.write(f"\n{workers} nodes: 30 jobs of 0.3 s, first to last {max(times) - min(times):.1f} s\n")

"""A batch on a Ray cluster of several nodes on this machine; its ComfyUI is the fake one, started by HostServer.

What has no cluster in it is tested without Ray too; test_batch_ray_live.py has the real ComfyUI.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from PIL import Image

from wan_gguf.cli import batch_ray
from wan_gguf.cli.batch_ray_actors import Places, places, start_members
from wan_gguf.cli.errors import CliError
from wan_gguf.tests.cli.batch_case import colours, start_client
from wan_gguf.tests.cli.batch_ray_case import Loss, kill_processes, run_batch, running_cluster
from wan_gguf.tests.cli.fake_comfy import write_fake_host

try:
    import ray
except ImportError:
    ray = None

needs_ray = pytest.mark.skipif(ray is None, reason="Ray is not installed: it has no package for this platform")
posix = pytest.mark.skipif(sys.platform == "win32", reason="Ray's clusters of several nodes need POSIX")
WITHIN_S = 300  # a hang is a failure, not a slow test


def node(alive: bool = True, **resources: float) -> dict:
    return {"Alive": alive, "Resources": resources}


@pytest.mark.parametrize(
    ("nodes", "workers", "expected"),
    [
        ([node(CPU=8.0, GPU=2.0), node(CPU=4.0, GPU=1.0), node(CPU=64.0)], None, Places(3, 1, 1)),
        ([node(CPU=8.0, GPU=2.0), node(CPU=4.0, GPU=4.0, alive=False)], None, Places(2, 1, 1)),
        ([node(CPU=8.0, GPU=2.0)], 1, Places(1, 1, 1)),
        ([node(GPU=2.0), node(CPU=4.0, GPU=1.0)], None, Places(3, 1, 0)),  # ray start --num-cpus 0
        ([node(CPU=8.0), node(CPU=4.0), node()], None, Places(2, 0, 4)),  # the head has no CPUs to give
        ([node(CPU=8.0), node(CPU=8.0)], 3, Places(3, 0, 4)),
        ([node(CPU=1.0)], 3, Places(3, 0, 1)),
        ([node()], None, Places(1, 0, 1)),  # nodes may come later
    ],
)
def test_a_gpu_or_else_a_node_has_one_server(nodes, workers, expected):
    assert places(nodes, workers) == expected


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "[::1]:{port}", "127.0.0.1:99999", "no host.invalid:6379"])
def test_a_wrong_address_is_refused_at_once(address):
    with pytest.raises(CliError, match=r"cannot be joined: .*; start it.*; nothing was queued"):
        batch_ray.check_address(address.format(port=free_port()))


def test_auto_means_the_address_that_ray_would_take(monkeypatch):
    batch_ray.check_address("auto")
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free_port()}")
    with pytest.raises(CliError, match=r"127\.0\.0\.1:.* cannot be joined"):
        batch_ray.check_address("auto")


def test_an_address_of_rays_client_is_refused():
    with pytest.raises(CliError, match=r"takes HOST:PORT .* or auto; got ray://a:10001; nothing was queued"):
        batch_ray.check_address("ray://a:10001")


def test_without_ray_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(CliError, match=r"needs the package ray, .*pip install ray; nothing was queued"):
        batch_ray.imported()


@needs_ray
@pytest.mark.parametrize("address", ["nonsense", ""])
def test_what_is_no_address_is_an_error_of_one_line(address, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(CliError, match=r"cannot be joined: .*nothing was queued"), batch_ray.joined(ray, address):
        pass
    assert signal.getsignal(signal.SIGTERM) is before


def check_folders(out: Path, count: int) -> None:
    folders = sorted(path for path in out.iterdir() if path.is_dir())
    assert [folder.name for folder in folders] == [f"{number:04d}-job{number}" for number in range(1, count + 1)]
    for number, folder in enumerate(folders, start=1):
        with Image.open(folder / "save.png") as image:
            assert image.getpixel((0, 0)) == (0, 0, number)
        assert json.loads((folder / "settings.json").read_text(encoding="utf-8"))["job"]["number"] == number


@pytest.fixture(scope="module")
def cluster():
    """Two nodes; their three GPUs are only counted by Ray, as nothing here uses one."""
    with running_cluster({"num_cpus": 2, "num_gpus": 2}, {"num_cpus": 1, "num_gpus": 1}) as made:
        yield made


def wait_until(condition, what: str, client: subprocess.Popen | None = None) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {WITHIN_S} s"
        assert client is None or client.poll() is None, f"{what}: the client ended with {client.returncode}"
        time.sleep(0.1)


def servers(host: Path) -> list[int]:
    """The ComfyUI processes of that folder that run."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if str(host) in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def count_done(out: Path) -> int:
    return len([path for path in out.glob("[0-9]*-*") if (path / "settings.json").exists()])


@posix
@needs_ray
def test_each_gpu_has_an_actor_that_sees_no_other_one(cluster, root, tmp_path):
    def variables(_worker) -> tuple:  # local, so that it is sent by value
        names = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")
        return (ray.get_runtime_context().get_node_id(), *(os.environ.get(name) for name in names))

    with batch_ray.joined(ray, cluster.address):
        wanted = places(ray.nodes(), None)
        gpus = {node["NodeID"]: int(node["Resources"].get("GPU", 0)) for node in ray.nodes()}
        assert wanted == Places(3, 1, 1)
        members = start_members(ray, wanted, [str(root), str(tmp_path), None, None])
        seen = ray.get([member.actor.__ray_call__.remote(variables) for member in members], timeout=WITHIN_S)
    threads = os.environ.get("OMP_NUM_THREADS")  # as without Ray
    assert sorted(seen) == sorted((node, str(gpu), threads) for node in gpus for gpu in range(gpus[node]))


@posix
@needs_ray
def test_a_killed_and_a_stopped_driver_leave_no_server_and_the_next_one_goes_on(cluster, root, tmp_path):
    host, out, log = write_fake_host(tmp_path / "host", 0.5), tmp_path / "out", tmp_path / "log"
    jobs = tmp_path / "jobs"
    jobs.mkdir()
    for name, content in colours(30):
        (jobs / f"{name}.json").write_text(json.dumps(content))
    arguments = (jobs, "--ray", cluster.address, "--workers", 1, "--out", out, "--json")

    client = start_client(root, host, log, *arguments)
    wait_until(lambda: count_done(out) >= 2, "two jobs", client)
    client.kill()
    assert client.wait(WITHIN_S) == -signal.SIGKILL
    wait_until(lambda: not servers(host), "the end of the killed driver's servers")

    for number, code, words in [
        (signal.SIGINT, 130, "what is left stays in the list"),
        (signal.SIGTERM, 143, "stopped by a signal"),
    ]:
        done = count_done(out)
        client = start_client(root, host, log, *arguments)
        wait_until(lambda done=done: count_done(out) >= done + 2, "two more", client)
        client.send_signal(number)
        assert client.wait(WITHIN_S) == code and words in log.read_text()
        wait_until(lambda: not servers(host), "the end of the stopped driver's servers")

    done = count_done(out)
    assert done < 30
    last = start_client(root, host, tmp_path / "last", *arguments)
    assert last.wait(WITHIN_S) == 0
    assert (tmp_path / "last").read_text().count(": done") == 30 - done
    check_folders(out, 30)


@posix
@needs_ray
def test_a_node_killed_in_the_middle_loses_no_job(cluster, monkeypatch, tmp_path):
    loss = Loss(cluster, monkeypatch, at_job=8)
    on_signal = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    shown = run_batch(cluster.address, write_fake_host(tmp_path / "host", 0.3), tmp_path / "out", colours(20))
    assert loss.done_before >= 5 and loss.given in (21, 22)
    assert shown.count("its node or worker was lost; trying again") in (1, 2)  # it may have two GPUs
    assert shown.count(": done") == 20
    check_folders(tmp_path / "out", 20)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == on_signal


@pytest.mark.long  # two clusters, and the time after which Ray gives its head up
@posix
@needs_ray
def test_a_lost_head_ends_the_batch_and_a_new_cluster_goes_on(root, monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "5")  # 60 by default
    host, out, log = write_fake_host(tmp_path / "host", 1.0), tmp_path / "out", tmp_path / "log"
    jobs = tmp_path / "jobs"
    jobs.mkdir()
    for name, content in colours(30):
        (jobs / f"{name}.json").write_text(json.dumps(content))
    with running_cluster({"num_cpus": 1}) as cluster:
        client = start_client(root, host, log, jobs, "--ray", cluster.address, "--out", out, "--json")
        wait_until(lambda: count_done(out) >= 2, "two jobs", client)
        kill_processes(cluster.head_node)
        assert client.wait(WITHIN_S) == 1 and "Failed to connect to GCS within 5 seconds" in log.read_text()
        wait_until(lambda: not servers(host), "the end of the servers")
    done = count_done(out)
    assert 2 <= done < 30
    with running_cluster({"num_cpus": 1}) as cluster:
        last = start_client(root, host, tmp_path / "last", jobs, "--ray", cluster.address, "--out", out, "--json")
        assert last.wait(WITHIN_S) == 0
    assert (tmp_path / "last").read_text().count(": done") == 30 - done
    check_folders(out, 30)


@pytest.mark.long
@posix
@needs_ray
def test_how_the_time_falls_with_the_nodes(tmp_path, capsys):
    """A figure for docs/scale.md: 30 jobs of 0.3 s, from the first one that ends to the last."""
    host = write_fake_host(tmp_path / "host", 0.3)
    with running_cluster(*[{"num_cpus": 1}] * 3) as cluster:
        for workers in range(1, 4):
            out = tmp_path / f"out{workers}"
            shown = run_batch(cluster.address, host, out, colours(30), workers)
            times = [os.stat(folder).st_mtime for folder in out.iterdir() if folder.is_dir()]
            assert len(times) == 30 and shown.count(": done") == 30
            with capsys.disabled():
                sys.stdout.write(
                    f"\n{workers} nodes: 30 jobs of 0.3 s, first to last {max(times) - min(times):.1f} s\n"
                )

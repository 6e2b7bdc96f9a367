"""The server's life: it starts, says why it does not, and never outlives what started it. A fake host, so quick."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from wan_gguf.cli import server as server_module
from wan_gguf.cli.errors import CliError
from wan_gguf.cli.server import HostServer

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals between processes")

# Runs a server as a command would, in a process of its own, until it is told to stop.
HOLDER = """
import importlib.util, pathlib, sys, time
root, host = sys.argv[1:]
spec = importlib.util.spec_from_file_location("wan_gguf", root + "/__init__.py", submodule_search_locations=[root])
module = importlib.util.module_from_spec(spec)
sys.modules["wan_gguf"] = module
spec.loader.exec_module(module)
from wan_gguf.cli import main
from wan_gguf.cli.server import HostServer

def run(_arguments):
    with HostServer(pathlib.Path(sys.executable), pathlib.Path(host)) as server:
        print(server.base, flush=True)
        time.sleep(600)

main._run = run
sys.exit(main.main([]))
"""


def _pids(fake_host: Path) -> list[int]:
    return json.loads((fake_host / "pids.json").read_text())


def _gone(is_alive, pids, within_s=60.0) -> bool:
    deadline = time.monotonic() + within_s
    while any(map(is_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(map(is_alive, pids))


def test_the_server_and_its_child_are_stopped_and_nothing_is_left(fake_host, is_alive):
    with HostServer(Path(sys.executable), fake_host, ["SomeNode"]) as server:
        base, pids = server.base, _pids(fake_host)
        assert all(map(is_alive, pids)) and server.is_running()
        assert server.facts() == {}  # the fake host has not imported torch
    assert _gone(is_alive, pids)
    assert not base.exists()
    server.stop()  # once more does no harm


def test_the_host_is_told_to_keep_to_its_own_folder(fake_host, tmp_path):
    pack = tmp_path / "packs: 甲" / "-pack, 乙"
    with HostServer(Path(sys.executable), fake_host, pack=pack) as server:
        argv = json.loads((fake_host / "argv.json").read_text(encoding="utf-8"))
        config = (server.base / "extra_model_paths.yaml").read_text(encoding="utf-8")
        assert argv[0] == str(fake_host / "main.py")
        assert argv[argv.index("--base-directory") + 1] == str(server.base)
        assert "sqlite:///:memory:" in argv and "--disable-all-custom-nodes" in argv
        assert "--whitelist-custom-nodes=-pack, 乙" in argv
    import yaml

    assert yaml.safe_load(config) == {"wan_gguf": {"custom_nodes": str(pack.parent)}}


def test_folders_of_ones_own_are_used_and_kept(fake_host, tmp_path):
    output, inputs = tmp_path / "out: 出" / "new", tmp_path / "in"
    shelves = {"vae": [tmp_path / "a b", tmp_path / "vae, 2"], "loras": [tmp_path / "l"], "text_encoders": []}
    with HostServer(
        Path(sys.executable), fake_host, model_folders=shelves, output=output, input_folder=inputs
    ) as server:
        argv = json.loads((fake_host / "argv.json").read_text(encoding="utf-8"))
        config = (server.base / "extra_model_paths.yaml").read_text(encoding="utf-8")
        (output / "video.mp4").write_bytes(b"kept")
        assert argv[argv.index("--output-directory") + 1] == str(output)
        assert argv[argv.index("--input-directory") + 1] == str(inputs)
        assert argv[argv.index("--temp-directory") + 1] == str(server.base / "temp")
    import yaml

    said = yaml.safe_load(config)["wan_gguf"]
    assert said.pop("custom_nodes") == str(server.pack.parent)
    assert {key: value.split("\n") for key, value in said.items()} == {
        "vae": [str(tmp_path / "a b"), str(tmp_path / "vae, 2")],
        "loras": [str(tmp_path / "l")],
    }
    assert (output / "video.mp4").read_bytes() == b"kept" and inputs.is_dir()


def test_a_host_that_dies_at_once_is_reported_with_its_last_error(fake_host):
    (fake_host / "failure.txt").write_text("the model shelf is empty")
    started = time.monotonic()
    with (
        pytest.raises(CliError, match=r"(?s)ended while it was starting.*RuntimeError: the model shelf is empty$"),
        HostServer(Path(sys.executable), fake_host),
    ):
        pass
    assert time.monotonic() - started < 200


def test_a_taken_port_is_answered_with_another_one(fake_host, monkeypatch):
    (fake_host / "failure.txt").write_text("[Errno 98] error while attempting to bind: address already in use")
    free, ports = server_module._free_port, []

    def choose():
        ports.append(free())
        if len(ports) == 3:
            (fake_host / "failure.txt").unlink()
        return ports[-1]

    monkeypatch.setattr(server_module, "_free_port", choose)
    with HostServer(Path(sys.executable), fake_host) as server:
        assert server.port == ports[2] and server.is_running()
    assert len(ports) == 3


@pytest.mark.parametrize(
    ("required", "log", "message"),
    [
        (["OtherNode"], "started", r"could not load this pack's nodes \(missing: OtherNode\)"),
        (
            ["SomeNode"],
            "Cannot import /x module for custom nodes: why\n 0.1 seconds (IMPORT FAILED): /x",
            "nodes(?s:.*): why$",
        ),
    ],
)
def test_a_pack_that_does_not_load_is_an_error(fake_host, is_alive, required, log, message):
    (fake_host / "log.txt").write_text(log)
    with pytest.raises(CliError, match=message), HostServer(Path(sys.executable), fake_host, required):
        pass
    assert _gone(is_alive, _pids(fake_host))


def test_a_folder_the_host_never_loads_is_refused_before_the_start(fake_host, tmp_path):
    with (
        pytest.raises(CliError, match=r"\.disabled; rename"),
        HostServer(Path(sys.executable), fake_host, pack=tmp_path / "pack.disabled"),
    ):
        pass
    assert not (fake_host / "argv.json").exists()


@posix_only
@pytest.mark.parametrize(("number", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129), ("SIGKILL", -9)])
def test_the_server_ends_with_the_command_whatever_ends_it(root, fake_host, is_alive, number, code):
    # a shell's background jobs ignore SIGINT, nohup's SIGHUP, and children inherit that
    restore = (
        "import signal, os, sys; signal.signal(2, signal.default_int_handler); signal.signal(1, signal.SIG_DFL); "
        "os.execv(sys.executable, sys.argv[1:])"
    )
    command = [sys.executable, "-c", restore, sys.executable, "-c", HOLDER, str(root), str(fake_host)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as holder:
        base = Path(holder.stdout.readline().strip())
        host, child = _pids(fake_host)
        holder.send_signal(getattr(signal, number))
        _, complaint = holder.communicate(timeout=300)
    assert holder.returncode == code
    assert _gone(is_alive, [host])
    if number == "SIGKILL":
        subprocess.run(["kill", str(child)], check=False)  # the launcher does not know the host's children
    else:
        assert _gone(is_alive, [child])
        assert complaint.startswith("error: stopped by") and complaint.count("\n") == 1
    deadline = time.monotonic() + 60
    while base.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not base.exists()


def test_a_host_node_that_does_not_import_is_not_the_packs_fault(fake_host):
    (fake_host / "log.txt").write_text(
        "WARNING: some comfy_extras/ nodes did not import correctly\nIMPORT FAILED: nodes_x.py"
    )
    with HostServer(Path(sys.executable), fake_host, ["SomeNode"]) as server:
        assert server.is_running()

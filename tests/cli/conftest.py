"""Real and fake hosts for the command line's tests."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from wan_gguf.cli.server import HostServer
from wan_gguf.cli.workflow import class_types, load_workflow

# A stand-in for main.py: takes the host's arguments, answers what HostServer asks, and starts a child of its own.
FAKE_MAIN = """
import argparse, json, os, pathlib, subprocess, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

here = pathlib.Path(sys.path[0])
(here / "argv.json").write_text(json.dumps(sys.argv), encoding="utf-8")
parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int)
port = parser.parse_known_args()[0].port
if (here / "failure.txt").exists():
    raise RuntimeError((here / "failure.txt").read_text(encoding="utf-8"))
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
(here / "pids.json").write_text(json.dumps([os.getpid(), child.pid]))
print((here / "log.txt").read_text(encoding="utf-8") if (here / "log.txt").exists() else "started", flush=True)

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        answers = {"/system_stats": {"system": {"argv": sys.argv}, "devices": []}, "/object_info": {"SomeNode": {}}}
        body = json.dumps(answers[self.path]).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""
NEIGHBOUR = "import pathlib\npathlib.Path(__file__).with_name('imported').touch()\nNODE_CLASS_MAPPINGS = {}\n"


@pytest.fixture
def fake_host(tmp_path) -> Path:
    """A folder whose main.py is a small web server."""
    folder = tmp_path / "假 host"
    folder.mkdir()
    (folder / "main.py").write_text(FAKE_MAIN, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def odd_pack(root, tmp_path_factory) -> Path:
    """A copy of what the host needs of the pack, oddly named, beside a neighbour that tells if it is imported."""
    parent = tmp_path_factory.mktemp("odd") / "包 100% {x} 'q' .d"
    pack = parent / "-wan pack.v2 测试"
    floors = ("convert", "host", "loaders", "nodes", "ops", "sampling", "text")
    for name in (*floors, "locales", "web", "reference_model/files"):
        if (root / name).is_dir():
            shutil.copytree(root / name, pack / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("__init__.py", "pyproject.toml"):
        shutil.copy(root / name, pack / name)
    (parent / "neighbour.py").write_text(NEIGHBOUR)
    return pack


@pytest.fixture(scope="session")
def server(odd_pack, host_dir):
    """The real host with the copied pack, running for all tests of this folder."""
    with HostServer(Path(sys.executable), host_dir, class_types(load_workflow()), pack=odd_pack) as running:
        yield running


@pytest.fixture
def is_alive():
    """is_alive(pid) -> whether such a process exists and is no zombie."""

    def check(pid: int) -> bool:
        try:
            os.kill(pid, 0)
        except OSError:
            return False
        status = Path(f"/proc/{pid}/stat")
        return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")

    return check

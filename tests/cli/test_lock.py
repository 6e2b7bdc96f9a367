"""The lock holds between processes, says so, and is free again when its holder is killed."""

import subprocess
import sys
import time

from wan_gguf.cli.lock import locked

HOLD = """
import importlib.util, sys, time
spec = importlib.util.spec_from_file_location("lock", sys.argv[1])
lock = importlib.util.module_from_spec(spec)
spec.loader.exec_module(lock)
import pathlib
with lock.locked(pathlib.Path(sys.argv[2])):
    print("held", flush=True)
    time.sleep(float(sys.argv[3]))
"""


def _holder(root, path, seconds):
    command = [sys.executable, "-c", HOLD, str(root / "cli" / "lock.py"), str(path), str(seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline().strip() == "held"
    return process


def test_a_second_process_waits_and_is_told_once(root, tmp_path):
    path = tmp_path / "folder" / "a.lock"
    holder = _holder(root, path, 1.0)
    waits = []
    with locked(path, on_wait=lambda: waits.append(time.monotonic())):
        assert holder.wait(60) == 0
    assert len(waits) == 1


def test_a_killed_holder_leaves_the_lock_free(root, tmp_path):
    path = tmp_path / "a.lock"
    holder = _holder(root, path, 600)
    holder.kill()
    holder.wait(60)
    waits = []
    with locked(path, on_wait=lambda: waits.append(1)):
        assert waits == []


def test_the_lock_can_be_taken_twice_in_a_row(tmp_path):
    waits, entered = [], 0
    for _ in range(2):
        with locked(tmp_path / "a.lock", on_wait=lambda: waits.append(True)):
            entered += 1
    assert (entered, waits) == (2, [])

"""benchmarks/gpu.py on small sizes and CPU tensors: its checks pass, find faults, and its timings are complete."""

import importlib
import json
import subprocess
import sys

import pytest
import torch

from wan_gguf.ops.backends.triton import decode as decode_module
from wan_gguf.ops.backends.triton.formats import FUNCTIONS

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def gpu(root):
    sys.path.insert(0, str(root / "benchmarks"))
    yield importlib.import_module("gpu")
    sys.path.remove(str(root / "benchmarks"))


@pytest.fixture
def bench(gpu, monkeypatch):
    found = gpu.Bench(CPU, quick=True)
    monkeypatch.setattr(found, "budget_s", lambda: 0.0)
    return found


def test_all_checks_pass(gpu, bench):
    said: list[str] = []
    assert gpu.check(bench, said.append) == []
    assert said[-1].startswith(f"{len(list(gpu.gpu_checks.all_checks(CPU, quick=True)))} of ")
    names = [name for name, _ in gpu.gpu_checks.all_checks(CPU, quick=False)]
    assert all(any(name in found for found in names) for name in FUNCTIONS)
    assert "more than 2^31 elements" in names


def test_a_wrong_kernel_is_found_and_an_exception_is_one_fault(gpu, monkeypatch):
    right = decode_module.decode
    monkeypatch.setattr(decode_module, "decode", lambda packed, dtype: right(packed, dtype).nextafter(torch.ones(1)))
    fault = gpu.gpu_checks.check_decode(CPU, "Q8_0", torch.float32, 2, 256)
    assert "of 512 numbers differ" in fault

    def broken():
        raise RuntimeError("no such instruction")

    monkeypatch.setattr(gpu.gpu_checks, "all_checks", lambda *a: [("one", broken), ("two", lambda: None)])
    said: list[str] = []
    assert gpu.gpu_checks.run_checks(CPU, True, said.append) == ["one: RuntimeError: no such instruction"]
    assert said == ["WRONG one: RuntimeError: no such instruction", "1 of 2 checks passed"]


def test_a_sum_that_is_off_is_found(gpu):
    near, exact, absolute = gpu.gpu_checks.near, torch.full((2,), 3.0).double(), torch.full((2,), 9.0).double()
    assert near(exact.float(), exact, absolute, 256) is None
    assert near(exact.float() * (1 + 2**-14), exact, absolute, 256).startswith("the largest difference is")


def test_the_tables(gpu, bench, monkeypatch):
    monkeypatch.setattr(gpu, "FUNCTIONS", ["Q4_K", "Q8_0"])
    rows = gpu.time_decode(bench, copy_rate=1e9, n=8, k=256)
    assert [row["format"] for row in rows] == ["Q4_K", "Q8_0"]
    assert all(row["16-bit ms"] > 0 and row["int8 GB/s"] is not None for row in rows)
    said: list[str] = []
    rows += gpu.time_linear(bench, [(256, 16)], [1, 40], said.append)
    assert [row.get("tokens") for row in rows[2:]] == [1, 40]
    assert "Q4_K int8" not in rows[2]
    assert rows[3]["Q4_K int8"] > 0
    assert said[1].count("x)") == 2
    stages = gpu.time_int8_stages(bench, k=256, n=16, m=40)
    assert set(stages) == {"decode weight", "decode columns", "quantize activations", "integer GEMM", "epilogue", "all"}
    assert json.loads(json.dumps(rows)) == rows
    assert len(gpu.table(rows[:2]).splitlines()) == 3
    assert gpu.table([]) == ""


def test_what_does_not_fit_is_left_out(gpu, bench, monkeypatch):
    def too_large():
        raise torch.OutOfMemoryError

    assert bench.clock.medians({"a": too_large, "b": lambda: None}, 0.0)["a"] is None
    monkeypatch.setattr(bench, "began", -gpu.LIMIT_S)
    assert gpu.time_linear(bench, [(256, 16)], [1], print) == []
    assert bench.left_out == ["linear 256->16, 1 tokens"]


WITHOUT_PACKAGES = """
import os, runpy, sys
for name in ("gguf", "comfy", "folder_paths"):
    sys.modules[name] = None  # an import of it fails
sys.argv = [sys.argv[1]]
sys.path[0] = os.path.dirname(sys.argv[0])  # as Python does when it starts a script
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device: the program would measure it")
def test_without_a_gpu_it_says_so(root):
    """From another folder, and without gguf and the host."""
    command = [sys.executable, "-c", WITHOUT_PACKAGES, str(root / "benchmarks" / "gpu.py")]
    done = subprocess.run(command, cwd=root.parent, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert "a CUDA or ROCm device is missing here; nothing was checked or timed" in done.stderr

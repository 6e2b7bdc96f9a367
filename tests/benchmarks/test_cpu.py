"""The CPU benchmark end to end with tiny shapes: what it prints, and that all contenders compute the same; no times."""

import json
import os
import signal
import subprocess
import sys

import pytest

REQUIRED = (
    "linear_exact_speed_vs_bf16",
    "linear_int8_speed_vs_bf16",
    "forward390_exact_time_vs_bf16",
    "forward390_int8_time_vs_bf16",
    "error_exact",
    "error_int8",
)


def test_layers_and_forwards_of_all_contenders(script, comfyui_gguf):
    options = ("--tiny", "--parts", "linear,forward", "--tokens", "390", "--native-bf16", "always", "--dtype", "fp32")
    done = script("cpu.py", *options, "--json", "--comfyui-gguf", comfyui_gguf)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert all(results[key] > 0 for key in REQUIRED)
    assert results["first_forward_s"] is None, "that part was not asked for"
    everyone = {"exact", "int8", "bf16", "fp32", "comfyui_gguf"} | {"diffusers"} - set(results["skipped"])
    linears, forward = results["linears"][0], results["forwards"][0]
    assert set(linears["seconds"]) == set(forward["seconds"]) == everyone
    assert [record["recipe"] for record in results["forwards"]] == ["Q4_K", "Q4_K_M", "Q8_0"]
    # float32 beside float32 differs by rounding; bf16 has 8 bits; diffusers decodes in float16, which has 11
    bounds = {"exact": 1e-5, "comfyui_gguf": 1e-5, "diffusers": 2e-3, "bf16": 2e-2, "int8": 5e-2}
    for found in (linears["errors"], forward["differences"]):
        assert {name: error for name, error in found.items() if not error <= bounds.get(name, 0)} == {}
    assert 1e-3 < results["error_exact_bf16"] < 5e-3, "rounded to bf16's 8 bits"


def test_peak_memory_of_a_forward(script):
    if not sys.platform.startswith("linux"):
        pytest.skip("peak memory is read from Linux's /proc")
    done = script("memory.py", "exact", "--tiny")
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)
    assert measured["largest_layer_bytes"] == 256 * 512 * 4
    # keys and values of the text are there at the same time: 512 tokens of 256 float32 each
    assert measured["peak_bytes"] >= 2 * 512 * 256 * 4


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--parts", "linear,speed"], "got 'speed'; linear, forward, memory, startup are allowed"),
        (["--tokens", "400"], "got '400'; 390, 1950 are allowed"),
        (["--layers", "0"], "got '0'; a whole number from 1 is allowed"),
        (["--comfyui-gguf", "."], "has no ops.py"),
        (["--sd-cpp", "missing"], "missing is no folder"),
    ],
)
def test_wrong_options_end_before_anything_is_imported(root, tmp_path, options, complaint):
    command = [sys.executable, "-S", str(root / "benchmarks" / "cpu.py"), *options]  # -S: no installed package at all
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", timeout=60)
    assert done.returncode == 2
    assert complaint in done.stderr and "Traceback" not in done.stderr


def test_ctrl_c_ends_it_in_one_line(root, host_dir):
    if sys.platform == "win32":
        pytest.skip("Ctrl-C cannot be sent to one process on Windows")
    process = subprocess.Popen(
        [sys.executable, str(root / "benchmarks" / "cpu.py"), "--json"],
        env={**os.environ, "COMFYUI_DIR": str(host_dir)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )  # fmt: skip
    try:
        assert process.stderr.readline().startswith("cpu "), "it has begun"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1] == "error: stopped by Ctrl-C" and "Traceback" not in err


@pytest.mark.long
def test_everything_at_once(script):
    done = script("cpu.py", "--tiny", "--json")
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert results["first_forward_s"] is not None and results["first_forward_int8_after_restart_s"] is not None
    if sys.platform.startswith("linux"):
        assert results["memory1950_int8_over_largest_layer"] is not None

"""The memory check for machines with a GPU: what it calls a fault, and its whole path once, on the CPU."""

import json

import pytest
import torch

from wan_gguf.benchmarks import gpu_memory
from wan_gguf.benchmarks.gpu_memory_report import (
    DEVICE_NOISE_BYTES,
    HOST_NOISE_BYTES,
    MODES,
    WORKSPACE_BYTES,
    faults,
    table,
)
from wan_gguf.benchmarks.shapes import Shape
from wan_gguf.benchmarks.weights import wan_weights
from wan_gguf.loaders.wan import load_wan

SHARES = {"whole": 1.0, "part": 0.4, "lowvram": 1.0, "novram": 0.0, "dynamic": 1.0, "dynamic, little room": 0.5}


def record(mode):
    """What the process for one mode would tell if all is well."""
    return {
        "device": "cuda", "dynamic": mode.startswith("dynamic"), "resident_share": SHARES[mode], "seconds": 1.0,
        "latents": {"plain": "a1" * 32, "lora": "b2" * 32}, "repeats": True, "not_mapped": [], "peak_bytes": 5 << 20,
        "left_bytes": 0, "device_growth_bytes": 0, "anon_bytes": 1 << 28, "anon_growth_bytes": 0,
    }  # fmt: skip


def records(**changed):
    """Of all modes, with changes to that of one; `mode` names it."""
    mode = changed.pop("mode", "novram")
    return {name: record(name) | (changed if name == mode else {}) for name in MODES}


def test_when_all_is_well_there_are_no_faults():
    assert faults(records(), tiny=False) == []


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"repeats": False}, "novram: sampling again after unloading gave other bits"),
        ({"not_mapped": ["q", "k"]}, "novram: 2 packed weights on the CPU are no longer the mapped file"),
        ({"latents": {"plain": "c", "lora": "b2" * 32}}, "novram: the latent plain has other bits than in mode whole"),
        ({"mode": "whole", "resident_share": 0.9}, "whole: 90% of the packed bytes were on the device"),
        ({"mode": "part", "resident_share": 1.0}, "part: 100% of the packed bytes were on the device"),
        ({"resident_share": 0.1}, "novram: 10% of the packed bytes were on the device"),
        ({"mode": "dynamic", "dynamic": False}, "dynamic: dynamic VRAM was off"),
        ({"mode": "lowvram", "dynamic": True}, "lowvram: dynamic VRAM was on"),
        ({"left_bytes": WORKSPACE_BYTES + 1}, "novram: 128 MiB stayed on the device after unloading"),
        ({"device_growth_bytes": DEVICE_NOISE_BYTES + 1}, "novram: a second round left 16 MiB more on the device"),
        ({"anon_growth_bytes": HOST_NOISE_BYTES + 1}, "novram: a second round left 64 MiB more anonymous memory"),
    ],
)
def test_every_fault_is_told(changed, sentence):
    assert faults(records(**changed), tiny=False) == [sentence]


def test_a_lora_without_effect_is_a_fault():
    same = {"plain": "a1" * 32, "lora": "a1" * 32}
    assert "part: the LoRA changed nothing" in faults(records(mode="part", latents=same), tiny=False)


def test_a_process_that_failed_is_a_fault_and_a_row():
    results = records() | {"part": {"error": "the process ended with exit code 3"}}
    assert faults(results, tiny=False) == ["part: the process ended with exit code 3"]
    assert "failed" in table(results).splitlines()[2]


def test_a_tiny_model_may_differ_under_dynamic_vram_only():
    other = {"plain": "c", "lora": "d"}
    assert faults(records(mode="dynamic", latents=other), tiny=True) == []
    assert len(faults(records(mode="dynamic", latents=other), tiny=False)) == 2
    assert len(faults(records(mode="novram", latents=other), tiny=True)) == 2


def test_the_device_is_not_judged_on_the_cpu():
    result = record("whole") | {"device": "cpu", "resident_share": 0.0, "left_bytes": None, "peak_bytes": None}
    assert faults({"whole": result}, tiny=True) == []
    assert table({"whole": result}).splitlines()[1].split()[:4] == ["whole", "0%", "-", "-"]


def test_the_file_it_writes_is_the_model(tmp_path):
    shape = Shape.tiny()
    written = gpu_memory.write_model(tmp_path / "model.gguf", shape, "Q4_K")
    assert written == (tmp_path / "model.gguf").stat().st_size
    loaded, made = load_wan(tmp_path / "model.gguf").tensors, wan_weights(shape.config, "Q4_K")
    assert loaded.keys() == made.keys()
    for name, packed in made.items():
        assert loaded[name].format is packed.format
        assert tuple(loaded[name].shape) == tuple(packed.shape)
        assert torch.equal(loaded[name].data, packed.data), name


def test_little_room_is_told_to_the_host_in_gigabytes():
    arguments = gpu_memory.host_arguments("dynamic, little room", "cuda", 2 << 30, 24 << 30)
    assert arguments == ["--enable-dynamic-vram", "--vram-headroom", "22.00"]
    assert gpu_memory.host_arguments("novram", "cuda", 2 << 30, 24 << 30) == ["--novram"]
    assert gpu_memory.host_arguments("novram", "cpu", 2 << 30, 0) == ["--cpu"]


def test_without_a_gpu_it_says_so_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_memory.main([]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "CUDA or ROCm device is missing" in said


def test_an_unknown_mode_is_refused(capsys):
    with pytest.raises(SystemExit):
        gpu_memory.parse(["--modes", "whole;half"])
    assert "got half; whole; part;" in capsys.readouterr().err


@pytest.mark.long
def test_the_whole_script_runs_on_the_cpu(script, tmp_path):
    target = tmp_path / "out.json"
    done = script("gpu_memory.py", "--device", "cpu", "--tiny", "--modes", "whole", "--json", target)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "all checks passed" in done.stdout
    written = json.loads(target.read_text(encoding="utf-8"))
    assert written["faults"] == []
    whole = written["modes"]["whole"]
    assert (whole["device"], whole["repeats"], whole["not_mapped"]) == ("cpu", True, [])
    assert whole["latents"]["plain"] != whole["latents"]["lora"]


def test_a_process_that_fails_ends_with_its_reason(tmp_path, host_dir):
    answer = gpu_memory.run_child({"mode": "whole"})
    assert answer == {"error": "the process ended with exit code 1; its messages are above"}

"""The converter's benchmark: a whole run with a tiny model; no times."""

import json

import pytest

from wan_gguf.benchmarks import convert_suite
from wan_gguf.benchmarks.shapes import Shape
from wan_gguf.convert.plan import plan_gguf
from wan_gguf.convert.source import open_source


def test_the_source_is_the_whole_model(tmp_path):
    path = tmp_path / "a b.safetensors"
    convert_suite.write_source(path, Shape.tiny().config)
    source = open_source(path)
    assert source.config["dim"] == Shape.tiny().config["dim"]
    values = source.tensors["blocks.0.ffn.0.weight"].rows(0, 64)
    assert values.std() == pytest.approx(convert_suite.STD, rel=0.05)


def test_the_library_is_measured_for_every_quantised_type(tmp_path):
    path = tmp_path / "a.safetensors"
    convert_suite.write_source(path, Shape.tiny().config)
    plan = plan_gguf(open_source(path), "Q4_K_M")
    rates = convert_suite.library_rates(plan)
    assert set(rates) == {"Q4_K", "Q6_K"} and all(rate > 0 for rate in rates.values())


def test_a_whole_run_prints_every_key(script):
    done = script("convert.py", "--tiny", "--json")
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert results["target_bytes"] < results["source_bytes"]
    assert results["time_vs_library"] == pytest.approx(results["seconds"] / results["library_s"])


def test_an_unknown_type_is_one_line(script):
    done = script("convert.py", "--tiny", "--type", "Q9")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: ") and "Q9" in done.stderr

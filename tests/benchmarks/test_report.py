"""The keys that others read, and the tables, from results made by hand."""

import json

import pytest

from wan_gguf.benchmarks import report

REQUIRED = [
    "linear_exact_speed_vs_bf16",
    "linear_int8_speed_vs_bf16",
    "forward390_exact_time_vs_bf16",
    "forward390_int8_time_vs_bf16",
    "forward1950_exact_time_vs_bf16",
    "forward1950_int8_time_vs_bf16",
    "error_exact",
    "error_int8",
    "first_forward_s",
]
NOTHING = {"machine": {"cpu": "some"}, "dtype": "bf16", "linears": [], "forwards": []}
NOTHING |= {"memory": {}, "startup": {}, "skipped": {}}


def record(exact, int8, **more):
    ratios = {"exact": exact, "int8": int8, "bf16": 1.0}
    return {"rounds": 3, "seconds": {"exact": 2.0, "int8": 1.0, "bf16": 4.0}, "time_vs_bf16": ratios, **more}


@pytest.fixture
def results():
    errors = {"exact": 3e-3, "int8": 9e-3, "bf16": 3e-3}
    linears = [
        record(0.5, 0.25, case="first", errors=errors, errors_bf16={"exact": 3e-3, "int8": 9e-3}),
        record(9.0, 9.0, case="second", errors=errors),
    ]
    forwards = [
        record(1.1, 0.9, recipe="Q4_K", tokens=390, layers=4, differences={"exact": 1e-3}),
        record(1.2, 0.8, recipe="Q4_K", tokens=1950, layers=4, differences={}),
        record(7.0, 7.0, recipe="Q8_0", tokens=390, layers=4, differences={}),
    ]
    peaks = {"activations": 100, "exact": 300, "int8": 260}
    memory = {"390": {what: {"peak_bytes": peak, "largest_layer_bytes": 160} for what, peak in peaks.items()}}
    startup = {"exact": {"after_install_s": 3.0, "after_restart_s": 1.0}}
    measured = {"linears": linears, "forwards": forwards, "memory": memory, "startup": startup}
    return {**NOTHING, **measured, "skipped": {"forward fp32": "no time"}}


def test_headline_numbers(results):
    keys = report.keys(results)
    assert keys["linear_exact_speed_vs_bf16"] == 2.0, "a speed: the inverse of the first case's time"
    assert keys["linear_int8_speed_vs_bf16"] == 4.0
    assert keys["linear_exact_speed_vs_fp32"] is None
    assert (keys["forward390_exact_time_vs_bf16"], keys["forward390_int8_time_vs_bf16"]) == (1.1, 0.9)
    assert (keys["forward1950_exact_time_vs_bf16"], keys["forward1950_int8_time_vs_bf16"]) == (1.2, 0.8)
    assert (keys["error_exact"], keys["error_int8"]) == (3e-3, 9e-3)
    assert keys["memory390_exact_over_largest_layer"] == (300 - 100) / 160
    assert keys["memory390_int8_over_largest_layer"] == 1.0
    assert keys["memory1950_exact_over_largest_layer"] is None
    assert (keys["first_forward_s"], keys["first_forward_after_restart_s"]) == (3.0, 1.0)
    assert keys["first_forward_int8_s"] is None


@pytest.mark.parametrize("measured", [True, False])
def test_every_key_is_there_whatever_was_measured(results, measured):
    everything = report.with_keys(results if measured else NOTHING)
    assert set(REQUIRED) <= set(everything)
    assert all((everything[key] is not None) == measured for key in REQUIRED)
    json.dumps(everything, allow_nan=False)


def test_tables_show_each_measurement_once(results):
    text = report.tables(results)
    assert "| first | 2000 (3.0e-03) | 1000 (9.0e-03) | 4000 (3.0e-03) |" in text
    assert "| Q4_K, 390 tokens, 4 layers | 2 (1.0e-03) | 1 | 4 |" in text
    assert "| memory390_exact_over_largest_layer | 1.25 |" in text
    assert "not measured: forward fp32: no time" in text
    assert "None" not in text


def test_tables_of_nothing_do_not_fail():
    assert "cpu some" in report.tables(NOTHING)


def test_shares_of_a_profile():
    text = report.shares({"whole": 10.0, "linear": 8.0, "attention": 0.5})
    rows = text.splitlines()[2:]
    assert rows[0] == "| linear | 8.000 | 80.0 % |"
    assert rows[1] == "| modulation, additions, the rest | 1.500 | 15.0 % |"
    assert rows[-1] == "| whole | 10.000 | 100 % |"

"""The keys that others read and what is called a fault, from results made by hand; and the memory that is watched."""

import json
import mmap
import time

import pytest

from wan_gguf.benchmarks import full_size_report as report
from wan_gguf.benchmarks.full_size_memory import Memory, Peak

GOOD = {"open_s": 0.1, "load_s": 0.5, "load_anon": 20e6, "before_anon": 400e6, "peak_anon": 700e6, "is_finite": True}
PAIR = {"file_bytes": 7, "peak_anon": 900e6, "before_anon": 400e6, "swap": 0, "is_finite": True}


def results(single=None, encoder=None, pair=None):
    return {
        "machine": {"cpu": "some"},
        "loadavg_before": [0.0, 0.0, 0.0],
        "5b": {"file_bytes": 5, "exact": {**GOOD, **(single or {})}, "int8": GOOD},
        "umt5": {**GOOD, "embedding_is_packed": True, **(encoder or {})},
        "a14b": {**PAIR, **(pair or {})},
    }


def test_keys_in_megabytes():
    keys = report.keys(results())
    assert (keys["ti2v5b_q4km_bytes"], keys["a14b_q4km_bytes"]) == (5, 7)
    assert (keys["open_s"], keys["load_s"], keys["load_anon_mb"]) == (0.1, 0.5, 20)
    assert (keys["step_peak_anon_mb"], keys["step_growth_anon_mb"]) == (700, 300)
    assert keys["open_cold_s"] is None, "that was not measured"


def test_every_key_is_there_whatever_was_measured():
    empty = report.keys({})
    assert set(empty) == set(report.keys(results())) and set(empty.values()) == {None}
    assert report.faults({}) == [] and report.slow({}) is None


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"single": {"load_anon": 201e6}}, "load_anon_mb: got 201; at most 200 is allowed"),
        ({"single": {"is_finite": False}}, "5b exact: the result has NaN or infinite values"),
        ({"encoder": {"peak_anon": 2500e6}}, "umt5_growth_anon_mb: got 2100; at most 1050 is allowed"),
        ({"encoder": {"embedding_is_packed": False}}, "umt5: the token table is dense; it has to stay packed"),
        ({"pair": {"swap": 3e6}}, "a14b_swap_mb: got 3; 0 is allowed"),
        ({"pair": {"is_finite": False}}, "a14b: the result has NaN or infinite values"),
    ],
)
def test_faults(change, fault):
    assert report.faults(results()) == []
    assert report.faults(results(**change)) == [fault]


def test_time_is_told_but_no_fault():
    late = results(single={"load_s": 0.95})
    assert report.slow(results()) is None and report.faults(late) == []
    assert report.slow(late) == "open_s + load_s: got 1.05; the target is 1 on a quiet machine"


def test_the_table_has_what_was_measured():
    text = report.table(results())
    assert "| step_peak_anon_mb | 700 |" in text and "None" not in text and "open_cold_s" not in text
    json.dumps(results(), allow_nan=False)


def test_the_peak_is_the_largest_of_many_looks():
    values = iter([5, 9, 7])
    with Peak(read=lambda: next(values, 1)) as peak:
        while peak.samples < 4:
            time.sleep(0.001)
    assert peak.anon == 9


def test_memory_that_is_touched_is_seen():
    size, before = 50_000_000, Memory.now()
    # private pages straight from the system: malloc may hand out freed ones that this process never gave back
    with mmap.mmap(-1, size, access=mmap.ACCESS_COPY) as held:
        untouched = Memory.now()
        for page in range(0, size, mmap.PAGESIZE):
            held[page] = 1
        touched = Memory.now()
    assert touched.anon - before.anon >= 0.9 * size
    assert untouched.anon - before.anon < 0.1 * size

"""Intervals against values from published tables and by hand."""

import numpy as np
import pytest

from wan_gguf.benchmarks.quality_statistics import difference, mean_of, share_of


def test_interval_of_a_mean():
    """1 to 5: standard deviation sqrt(2.5); the t table has 2.776 for 4 degrees of freedom."""
    found = mean_of([1, 2, 3, 4, 5])
    assert (found["mean"], found["min"], found["max"]) == (3, 1, 5)
    assert found["half_width"] == pytest.approx(2.776 * (2.5 / 5) ** 0.5, rel=1e-3)


def test_interval_of_a_mean_holds_the_truth_19_times_of_20():
    rng = np.random.default_rng(0)
    found = [mean_of(rng.normal(7, 2, 64)) for _ in range(2000)]
    hits = np.mean([abs(f["mean"] - 7) < f["half_width"] for f in found])
    assert abs(hits - 0.95) < 0.015, "three standard errors of 2000 trials"


def test_wilson_s_interval_by_its_definition():
    """Its ends are the shares p that lie exactly 1.96 standard errors of p itself away from what was seen."""
    found = share_of([True] * 60 + [False] * 4)
    assert (found["right"], found["n"], found["share"]) == (60, 64, 60 / 64)
    for end in (found["low"], found["high"]):
        assert abs(60 / 64 - end) == pytest.approx(1.959964 * (end * (1 - end) / 64) ** 0.5)


def test_wilson_s_interval_of_all_right_ends_at_one():
    found = share_of([True] * 64)
    assert found["high"] == pytest.approx(1)
    assert found["low"] == pytest.approx(64 / (64 + 1.959964**2))


def test_a_small_difference_within_pairs_is_seen_through_a_large_spread_between_them():
    rng = np.random.default_rng(1)
    prompts = rng.normal(30, 8, 64)  # some videos are harder than others, for every type
    a, b = prompts + 0.5 + rng.normal(0, 0.3, 64), prompts
    found = difference(a, b)
    assert found["is_real"] and found["mean"] == pytest.approx(0.5, abs=0.15)
    assert found["half_width"] < 0.1 < mean_of(a)["half_width"]


def test_no_difference_is_not_called_real():
    x = np.linspace(20, 40, 64)
    alternating = np.tile([1.0, -1.0], 32)
    assert not difference(x + alternating, x)["is_real"]
    assert not difference(x, x)["is_real"]

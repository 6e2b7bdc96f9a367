"""Interleaving: the order of calls, when rounds end, and ratios taken within a round. Time is a made-up clock."""

import pytest

from wan_gguf.benchmarks.results import in_words, times
from wan_gguf.benchmarks.timing import Samples, interleaved


class Clock:
    """Advances only when a contender says so."""

    def __init__(self):
        self.now = 0.0
        self.calls = []

    def __call__(self):
        return self.now

    def contender(self, name, seconds):
        def call():
            self.calls.append(name)
            self.now += seconds

        return call


def test_each_round_calls_all_and_starts_with_another():
    clock = Clock()
    samples = interleaved({name: clock.contender(name, 1) for name in "abc"}, rounds=4, clock=clock)
    assert "".join(clock.calls) == "abc" + "bca" + "cab" + "abc"
    assert samples.seconds == {name: [1.0] * 4 for name in "abc"}


@pytest.mark.parametrize(("budget_s", "rounds"), [(0, 3), (2.5, 3), (4.5, 5), (100, 6)])
def test_more_rounds_until_the_budget_is_spent(budget_s, rounds):
    clock = Clock()
    interleaved({"a": clock.contender("a", 1)}, rounds=3, budget_s=budget_s, max_rounds=6, clock=clock)
    assert len(clock.calls) == rounds


def test_nothing_to_time_ends():
    assert interleaved({}, rounds=3).seconds == {}


def test_ratios_are_taken_round_by_round():
    """A disturbance that doubles one round does not move the ratio, while it would move a ratio of means."""
    samples = Samples({"a": [1.0, 2.0, 1.2], "b": [2.0, 4.0, 2.4]})
    assert samples.time_ratio("a", "b") == pytest.approx(0.5)
    assert samples.speed_ratio("a", "b") == pytest.approx(2.0)
    crossed = Samples({"a": [1.0, 10.0, 3.0], "b": [2.0, 2.0, 2.0]})
    assert crossed.time_ratio("a", "b") == pytest.approx(1.5), "the median of 0.5, 5 and 1.5"
    assert crossed.median("a") == 3.0


def test_who_did_not_run_has_no_numbers():
    samples = Samples({"a": [1.0]})
    assert samples.median("b") is samples.time_ratio("a", "b") is samples.speed_ratio("b", "a") is None


def test_a_record_holds_medians_and_ratios_to_the_dense_layers_that_ran():
    record = times(Samples({"exact": [1.0, 3.0, 2.0], "fp32": [4.0, 4.0, 4.0]}))
    assert record == {
        "rounds": 3,
        "seconds": {"exact": 2.0, "fp32": 4.0},
        "time_vs_fp32": {"exact": 0.5, "fp32": 1.0},
    }
    assert in_words(record) == "exact 2 s, fp32 4 s"

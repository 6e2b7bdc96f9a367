"""Results that are tried again later: when, in which order, and when they are given up."""

import time

from wan_gguf.cli import batch_held
from wan_gguf.cli.batch_held import Held


def test_each_waits_for_its_own_time_and_is_given_up_after_the_last(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(batch_held, "PAUSES_S", (1.0, 5.0))
    held, keys = Held(), ["a", "b"]
    assert held.due(keys) == keys and held.wait_s(keys, 30.0) == 30.0
    assert held.hold("a")
    assert held.due(keys) == ["b"] and held.wait_s(keys, 30.0) == 1.0 and held.wait_s(["b"], 30.0) == 30.0
    now[0] += 1
    assert held.due(keys) == keys and held.wait_s(keys, 30.0) == 0.0
    assert held.hold("a") and held.wait_s(keys, 30.0) == 5.0
    now[0] += 5
    assert not held.hold("a")
    assert held.due(keys) == keys and held.hold("a")  # made again, it counts anew


def test_what_was_fetched_counts_anew(monkeypatch):
    monkeypatch.setattr(batch_held, "PAUSES_S", (60.0,))
    held = Held()
    for _ in range(3):
        assert held.hold("a") and held.due(["a"]) == []
        held.release("a")
        assert held.due(["a"]) == ["a"]

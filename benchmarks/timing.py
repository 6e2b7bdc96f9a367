"""Timing on a shared machine: everything compared runs in turn in one process, and ratios are taken within a round.

A round calls every contender once; each round starts with another one, so that none always follows the same
neighbour. What disturbs the machine for a while disturbs a round's contenders alike, and the median of the rounds'
ratios says more than the ratio of two medians.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Contenders = Mapping[str, Callable[[], object]]


@dataclass(frozen=True)
class Samples:
    """Seconds of each contender, one per round."""

    seconds: dict[str, list[float]]

    def median(self, name: str) -> float | None:
        """The contender's median time; None if it did not run."""
        return statistics.median(self.seconds[name]) if name in self.seconds else None

    def time_ratio(self, name: str, other: str) -> float | None:
        """How many times as long as `other` it takes; None if one of them did not run."""
        if name not in self.seconds or other not in self.seconds:
            return None
        pairs = zip(self.seconds[name], self.seconds[other], strict=True)
        return statistics.median(own / others for own, others in pairs)

    def speed_ratio(self, name: str, other: str) -> float | None:
        """How many times as fast as `other` it is."""
        return self.time_ratio(other, name)


def interleaved(
    contenders: Contenders,
    rounds: int = 3,
    budget_s: float = 0.0,
    max_rounds: int = 15,
    clock: Callable[[], float] = time.perf_counter,
) -> Samples:
    """`rounds` rounds, and more up to `max_rounds` until `budget_s` seconds are spent. The caller warms up."""
    names = list(contenders)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    begin, done = clock(), 0
    while done < rounds or (done < max_rounds and clock() - begin < budget_s):
        first = done % max(1, len(names))
        for name in names[first:] + names[:first]:
            start = clock()
            contenders[name]()
            seconds[name].append(clock() - start)
        done += 1
    return Samples(seconds)

"""One of several options for each tensor, so that the harm is least and the bytes stay within a budget.

From the smallest options on, the step that takes away most harm for a byte is taken next, among the steps on the lower
convex hull of each tensor's (bytes, harm); what then is left of the budget is filled with whatever still fits. This is
the optimum of the problem in which tensors may be divided, but for the last step: HAWQ-V2 (arXiv 1911.03852) and the
rate control of video encoders choose in the same way.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Option:
    """Bytes and harm of a tensor in one type."""

    nbytes: int
    harm: float


def smallest(options: Sequence[Option]) -> int:
    """Index of the smallest option, of these the least harmful."""
    return min(range(len(options)), key=lambda i: (options[i].nbytes, options[i].harm, i))


def choose(tensors: Sequence[Sequence[Option]], budget_bytes: int) -> list[int]:
    """The index of an option for each tensor. Raises ValueError where the smallest do not fit."""
    chosen = [smallest(options) for options in tensors]
    left = budget_bytes - sum(options[i].nbytes for options, i in zip(tensors, chosen, strict=True))
    if left < 0:
        raise ValueError(f"the smallest options take {-left} bytes more than the budget of {budget_bytes}")
    steps = [step for number, options in enumerate(tensors) for step in _steps(number, options)]
    for _, number, before, after in sorted(steps, key=lambda step: -step[0]):  # equal ones keep the file's order
        extra = tensors[number][after].nbytes - tensors[number][before].nbytes
        if chosen[number] == before and extra <= left:
            chosen[number], left = after, left - extra
    _fill(tensors, chosen, left)
    return chosen


def _steps(number: int, options: Sequence[Option]) -> list[tuple[float, int, int, int]]:
    """(harm saved for a byte, tensor, from option, to option) along the hull."""
    return [(_rate(options[i], options[j]), number, i, j) for i, j in pairwise(lower_hull(options))]


def _rate(small: Option, large: Option) -> float:
    return (small.harm - large.harm) / (large.nbytes - small.nbytes)


def lower_hull(options: Sequence[Option]) -> list[int]:
    """Indices from the smallest option on; each step saves harm, and less for a byte than the one before."""
    hull = [smallest(options)]
    while True:
        here = options[hull[-1]]
        better = [i for i, option in enumerate(options) if option.nbytes > here.nbytes and option.harm < here.harm]
        if not better:
            return hull
        hull.append(max(better, key=lambda i: (_rate(here, options[i]), -i)))


def _fill(tensors: Sequence[Sequence[Option]], chosen: list[int], left: int) -> None:
    """Take what saves most of the options that fit into the bytes left, until none does."""
    while True:
        best = (0.0, 0, 0, 0)
        for number, options in enumerate(tensors):
            here = options[chosen[number]]
            for i, option in enumerate(options):
                extra, saved = option.nbytes - here.nbytes, here.harm - option.harm
                if extra <= left and saved > best[0]:
                    best = (saved, number, i, extra)
        saved, number, i, extra = best
        if not saved:
            return
        chosen[number], left = i, left - extra

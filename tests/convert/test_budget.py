"""Choosing options within a budget: against all combinations, at the edges, and the hull by hand."""

import itertools
import random

import pytest

from wan_gguf.convert.budget import Option, choose, lower_hull, smallest


def random_tensors(seed: int, n: int, n_options: int = 4) -> list[list[Option]]:
    """Options that mostly get better with their size, as types do, and sometimes do not."""
    rng = random.Random(seed)
    tensors = []
    for _ in range(n):
        size, harm = rng.randint(50, 500), rng.uniform(1, 100)
        options = []
        for _ in range(n_options):
            options.append(Option(size, harm))
            size, harm = size + rng.randint(10, 200), harm * rng.uniform(0.2, 1.1)
        tensors.append(options)
    return tensors


def totals(tensors, chosen) -> tuple[int, float]:
    picked = [options[i] for options, i in zip(tensors, chosen, strict=True)]
    return sum(option.nbytes for option in picked), sum(option.harm for option in picked)


@pytest.mark.parametrize("seed", range(20))
def test_no_combination_is_better_by_more_than_one_step(seed):
    """The greedy path is the optimum of the divisible problem up to its last, partial step."""
    tensors = random_tensors(seed, 5)
    low = sum(options[smallest(options)].nbytes for options in tensors)
    high = sum(max(option.nbytes for option in options) for options in tensors)
    budget = random.Random(-seed).randint(low, high)
    nbytes, harm = totals(tensors, choose(tensors, budget))
    every = (totals(tensors, chosen) for chosen in itertools.product(range(4), repeat=5))
    optimum = min(found_harm for found_bytes, found_harm in every if found_bytes <= budget)
    largest_step = max(
        options[i].harm - options[j].harm for options in tensors for i, j in itertools.pairwise(lower_hull(options))
    )
    assert nbytes <= budget
    assert optimum <= harm <= optimum + largest_step


def test_nothing_that_would_help_fits_any_more():
    tensors = random_tensors(3, 12)
    budget = sum(options[smallest(options)].nbytes for options in tensors) + 700
    chosen = choose(tensors, budget)
    left = budget - totals(tensors, chosen)[0]
    for options, i in zip(tensors, chosen, strict=True):
        for option in options:
            assert option.harm >= options[i].harm or option.nbytes - options[i].nbytes > left


def test_the_edges():
    tensors = random_tensors(1, 3)
    least = sum(options[smallest(options)].nbytes for options in tensors)
    assert totals(tensors, choose(tensors, least))[0] == least
    with pytest.raises(ValueError, match="the smallest options take 1 bytes more than the budget"):
        choose(tensors, least - 1)
    best = sum(min(option.harm for option in options) for options in tensors)
    assert totals(tensors, choose(tensors, 10**9))[1] == pytest.approx(best)


def test_the_hull_leaves_out_what_is_worse_than_a_mixture():
    options = [
        Option(100, 10.0),
        Option(110, 9.9),
        Option(120, 4.0),
        Option(120, 5.0),
        Option(150, 4.5),
        Option(200, 1.0),
    ]
    assert lower_hull(options) == [0, 2, 5]


def test_of_equal_sizes_the_less_harmful_is_taken():
    assert smallest([Option(10, 2.0), Option(10, 1.0), Option(20, 0.0)]) == 1


def test_more_room_never_harms():
    tensors = random_tensors(7, 8)
    least = sum(options[smallest(options)].nbytes for options in tensors)
    harms = [totals(tensors, choose(tensors, least + extra))[1] for extra in (0, 400, 800, 1600, 3200)]
    assert harms == sorted(harms, reverse=True)

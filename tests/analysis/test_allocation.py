from __future__ import annotations

from itertools import product

import pytest

from lora_sweep.analysis.allocation import allocate, falling, gained


def test_the_greedy_placement_is_the_best_one() -> None:
    gains = {"a": [5.0, 4.0, 1.0], "b": [3.0, 0.5, 0.1], "c": [0.2, 0.1, 0.0]}
    costs = dict.fromkeys(gains, 10)
    ranks = allocate(gains, costs, 40)
    placements = [dict(zip(gains, one, strict=True)) for one in product(range(4), repeat=3) if sum(one) <= 4]
    assert gained(gains, ranks) == max(gained(gains, one) for one in placements)
    assert ranks == {"a": 3, "b": 1, "c": 0}


def test_a_rank_that_costs_more_must_gain_more() -> None:
    assert allocate({"dear": [3.0], "cheap": [2.0, 2.0]}, {"dear": 20, "cheap": 10}, 20) == {"dear": 0, "cheap": 2}


def test_without_any_gain_the_placement_is_uniform() -> None:
    gains = {name: [0.0] * 8 for name in "abcd"}
    assert allocate(gains, dict.fromkeys(gains, 10), 80) == dict.fromkeys("abcd", 2)


def test_a_layer_gets_no_more_ranks_than_it_has_gains_and_the_budget_holds() -> None:
    ranks = allocate({"a": [9.0, 9.0], "b": [1.0] * 9}, {"a": 7, "b": 11}, 60)
    assert ranks == {"a": 2, "b": 4}


@pytest.mark.parametrize(
    ("values", "expected"),
    [([3, 2, 1], [3, 2, 1]), ([1, 2, 3], [2, 2, 2]), ([4, 1, 2, -5], [4, 1.5, 1.5, 0]), ([-1, -2], [0, 0]), ([], [])],
)
def test_falling(values: list[float], expected: list[float]) -> None:
    assert falling(values) == expected

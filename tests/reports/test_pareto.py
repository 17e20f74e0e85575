import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from reports import pareto_front

# few distinct values, so that ties and duplicates are common
VALUES = st.sampled_from([-math.inf, -1.0, 0.0, 1.0, 2.0, 3.0, math.inf, math.nan])


def naive(costs: np.ndarray) -> list[bool]:
    def dominates(a: np.ndarray, b: np.ndarray) -> bool:
        return not np.isnan(a).any() and bool((a <= b).all() and (a < b).any())

    return [not np.isnan(row).any() and not any(dominates(other, row) for other in costs) for row in costs]


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 4).flatmap(lambda k: arrays(np.float64, st.tuples(st.integers(0, 12), st.just(k)), elements=VALUES))
)
def test_agrees_with_the_naive_front(costs: np.ndarray) -> None:
    assert pareto_front(costs).tolist() == naive(costs)


def test_equal_rows_share_the_front() -> None:
    assert pareto_front([[1, 2], [1, 2], [2, 1], [2, 2]]).tolist() == [True, True, True, False]


def test_a_nan_is_never_on_the_front_and_beats_nothing() -> None:
    assert pareto_front([[math.nan, 0], [1, 1], [2, math.nan]]).tolist() == [False, True, False]


@pytest.mark.parametrize("k", [1, 2, 3])
def test_empty(k: int) -> None:
    assert pareto_front(np.empty((0, k))).tolist() == []


def test_large_inputs_are_fast() -> None:
    costs = np.random.default_rng(0).normal(size=(200_000, 2))
    assert 1 <= pareto_front(costs).sum() < 100


@pytest.mark.parametrize("costs", [[1.0, 2.0], [[], []]])
def test_refuses_other_shapes(costs: list) -> None:
    with pytest.raises(ValueError, match=r"shape \(n, k\)"):
        pareto_front(costs)

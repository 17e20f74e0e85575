from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from reports.statistics import compare_configurations
from reports.statistics.configurations import half_width, shared_covariance
from reports.statistics.student import quantile

values = st.lists(st.lists(st.floats(0.5, 0.9), min_size=2, max_size=5), min_size=2, max_size=5)


def covariance_of(seeds: int, seed: int = 0) -> np.ndarray:
    draws = np.random.default_rng(seed).normal(size=(seeds, 40)) + np.random.default_rng(seed + 1).normal(size=40)
    return np.cov(draws) / 1e4


@pytest.mark.parametrize("freedom", [1.0, 1.7, 4, 33.3])
@pytest.mark.parametrize("probability", [0.5, 0.975, 0.9999])
def test_student_quantile_of_any_freedom(probability, freedom) -> None:
    assert quantile(probability, freedom) == pytest.approx(stats.t.ppf(probability, freedom))


def test_shared_covariance_is_that_of_different_seeds() -> None:
    sizes, covariance = [3, 2, 1], covariance_of(6)
    groups = [(0, 1, 2), (3, 4), (5,)]
    found = shared_covariance(covariance, sizes)
    for a, first in enumerate(groups):
        for b, second in enumerate(groups):
            pairs = [covariance[i, j] for i in first for j in second if i != j]
            assert found[a, b] == pytest.approx(np.mean(pairs)) if pairs else math.isnan(found[a, b])


@settings(max_examples=40, deadline=None)
@given(values, st.floats(0.5, 0.99))
def test_without_noise_of_examples_it_is_welchs_interval(groups, level) -> None:
    first, second = groups[:2]
    if np.var(first) + np.var(second) < 1e-12:
        return
    expected = stats.ttest_ind(first, second, equal_var=False).confidence_interval(level)
    assert 2 * half_width(first, second, 0.0, level) == pytest.approx(expected.high - expected.low, rel=1e-6)


@settings(max_examples=40, deadline=None)
@given(values, st.integers(0, 1000))
def test_each_is_compared_with_the_best(groups, seed) -> None:
    covariance = covariance_of(sum(map(len, groups)), seed)
    found = compare_configurations(groups, covariance, 1)
    means = np.array([np.mean(group) for group in groups])
    best = int(means.argmax())
    assert [one.gain for one in found] == pytest.approx(list(means - means[best]))
    assert found[best].bounds is None and not found[best].ruled_out
    shared = shared_covariance(covariance, [len(group) for group in groups])
    level = 1 - 0.05 / (len(groups) - 1)
    for c, one in enumerate(found):
        half = math.hypot(
            stats.t.ppf(0.975, len(groups[c]) - 1) * np.std(groups[c], ddof=1) / math.sqrt(len(groups[c])),
            1.96 * math.sqrt(max(0, shared[c, c])),
        )
        assert one.over_seeds.bounds == pytest.approx((means[c] - half, means[c] + half), abs=1e-3)
        if c != best:
            noise = shared[c, c] + shared[best, best] - 2 * shared[c, best]
            half = half_width(groups[c], groups[best], noise, level)
            if half is None:
                assert one.bounds is None and not one.ruled_out
                continue
            assert one.bounds == pytest.approx((one.gain - half, one.gain + half))
            assert one.ruled_out == (one.gain + half < 0)


@settings(max_examples=20, deadline=None)
@given(values)
def test_losses_are_qualities_upside_down(groups) -> None:
    covariance = covariance_of(sum(map(len, groups)))
    upside_down = [[-value for value in group] for group in groups]
    found = compare_configurations(groups, covariance, 1)
    other = compare_configurations(upside_down, covariance, -1)
    assert [(one.gain, one.bounds) for one in found] == [(one.gain, one.bounds) for one in other]


def test_what_cannot_be_said() -> None:
    best, single = compare_configurations([[0.8, 0.81], [0.7]], covariance_of(3), 1)
    assert best.over_seeds is not None and single.over_seeds is None and single.bounds is None
    unknown = compare_configurations([[0.8, 0.81], [0.7, 0.71]], None, 1)
    assert all(one.over_seeds is None and one.bounds is None and not one.ruled_out for one in unknown)
    assert unknown[1].gain == pytest.approx(-0.1)
    assert half_width([0.8, 0.8], [0.7, 0.7], 0.0, 0.95) is None

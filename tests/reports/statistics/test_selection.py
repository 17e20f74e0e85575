"""Corrections for having picked, beside loops over trials and resamples."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from reports.statistics import MeanSample, estimates, optimism, replicates, resample_counts, simultaneous_level
from reports.statistics.noise import grain, scaled_noise

CASES = st.tuples(st.integers(1, 6), st.integers(5, 40), st.integers(0, 10**6))


def sample_of(trials: int, examples: int, seed: int, alike: bool) -> tuple[MeanSample, np.ndarray]:
    values = np.random.default_rng(seed).gamma(2.0, size=(trials, examples))
    if alike and trials > 1:
        values[-1] = values[0]
    sample = MeanSample(values)
    return sample, replicates(sample, resample_counts(examples, 50, seed=seed))


@settings(max_examples=40, deadline=None)
@given(CASES, st.booleans())
def test_the_simultaneous_level_equals_a_loop(case, alike) -> None:
    sample, drawn = sample_of(*case, alike)
    values = estimates(sample)
    largest, noise = [], scaled_noise(sample, drawn, grain(sample))[1].tolist()
    errors = [float(np.std([row[k] for row in noise], ddof=1)) for k in range(len(values))]
    for row in noise:
        largest.append(max(abs(one) / error for one, error in zip(row, errors, strict=True)))
    alone = len(values) < 2
    expected = 0.95 if alone else max(0.95, math.erf(float(np.quantile(largest, 0.95)) / math.sqrt(2)))
    found = simultaneous_level(sample, drawn)
    assert found == pytest.approx(expected)
    # by the normal distribution of scipy instead of the error function
    if not alone:
        assert max(0.95, 2 * stats.norm.cdf(np.quantile(largest, 0.95)) - 1) == pytest.approx(found)


@settings(max_examples=40, deadline=None)
@given(CASES, st.sampled_from([1, -1]), st.booleans())
def test_the_optimism_equals_a_loop(case, sign, alike) -> None:
    sample, drawn = sample_of(*case, alike)
    values = [sign * float(value) for value in estimates(sample)]
    judged = []
    for row in drawn:
        winner = max(range(len(values)), key=lambda k: sign * row[k])
        judged.append(2 * values[winner] - sign * row[winner])
    expected = max(0.0, max(values) - sum(judged) / len(judged))
    assert optimism(estimates(sample), drawn, sign) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 60), st.integers(1, 40), st.integers(0, 10**6))
def test_resamples_equal_counting_by_hand(examples, resamples, seed) -> None:
    found = np.concatenate(list(resample_counts(examples, resamples, seed)))
    random = np.random.default_rng(seed)
    for row, picks in zip(found, random.integers(0, examples, size=(resamples, examples)), strict=True):
        assert row.tolist() == [int((picks == i).sum()) for i in range(examples)]

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from reports.statistics import (
    MacroF1Sample,
    MeanSample,
    RatioSample,
    bca,
    estimates,
    intervals,
    normal,
    paired_comparison,
    replicates,
    resample_counts,
    wilson,
)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3000), st.floats(0, 1), st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_equals_scipy(examples, share, level) -> None:
    hits = round(share * examples)
    expected = stats.binomtest(hits, examples).proportion_ci(level, method="wilson")
    assert wilson(hits / examples, examples, normal.two_sided(level)) == pytest.approx(tuple(expected), abs=1e-9)


def ratio(numerators, denominators, axis=-1):
    return numerators.sum(axis=axis) / denominators.sum(axis=axis)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.9, 0.95]), st.booleans())
def test_bca_equals_scipy_on_the_same_resamples(seed, level, is_ratio) -> None:
    random = np.random.default_rng(seed)
    values, tokens = random.gamma(1.5, size=(2, 40)), random.integers(1, 9, size=40).astype(float)
    sample = RatioSample(values, tokens) if is_ratio else MeanSample(values)
    drawn = replicates(sample, resample_counts(40, 500, seed=seed))
    ours = bca(estimates(sample), drawn, sample.leave_one_out(), level)
    for trial in range(2):
        data = (values[trial], tokens) if is_ratio else (values[trial],)
        first = stats.bootstrap(
            data, ratio if is_ratio else np.mean, n_resamples=2, method="percentile", paired=is_ratio, vectorized=True
        )
        first.bootstrap_distribution = drawn[:, trial]
        theirs = stats.bootstrap(
            data,
            ratio if is_ratio else np.mean,
            n_resamples=0,
            confidence_level=level,
            method="BCa",
            paired=is_ratio,
            vectorized=True,
            bootstrap_result=first,
        )
        np.testing.assert_allclose(ours[trial], theirs.confidence_interval, rtol=1e-9)


def test_the_method_suits_the_metric() -> None:
    hits = np.array([[1.0] * 20, [1.0] * 10 + [0.0] * 10])
    accuracy = MeanSample(hits, "share", binary=True)
    np.testing.assert_allclose(intervals(accuracy, replicates(accuracy)), [wilson(1.0, 20), wilson(0.5, 20)])
    labels = np.array([0, 1] * 10)
    perfect = MacroF1Sample(labels, labels[None], 2)
    # no resample differs from another, which does not mean that the value is certain
    assert np.isnan(intervals(perfect, replicates(perfect))).all()
    constant = MeanSample(np.full((1, 20), 0.5))
    assert np.isnan(intervals(constant, replicates(constant))).all()


def test_intervals_are_seeded() -> None:
    sample = MeanSample(np.random.default_rng(0).gamma(2.0, size=(3, 100)))
    np.testing.assert_array_equal(intervals(sample, replicates(sample)), intervals(sample, replicates(sample)))
    assert (intervals(sample, replicates(sample)) != intervals(sample, replicates(sample, seed=1))).any()


def test_paired_accuracy_is_agresti_and_min() -> None:
    # 20 examples that only the first gets right, 10 that only the second does, 70 alike
    first = np.array([1] * 20 + [0] * 10 + [1] * 70, dtype=np.float32)
    second = np.array([0] * 20 + [1] * 10 + [1] * 70, dtype=np.float32)
    sample = MeanSample(np.stack([first, second]), "share", binary=True)
    found = paired_comparison(sample, 1)
    # by hand: centre 10 / 102, error sqrt(31 - 100 / 102) / 102
    assert found.gain == pytest.approx(0.1)
    assert found.bounds == pytest.approx((10 / 102 - 1.959964 * 0.0537158, 10 / 102 + 1.959964 * 0.0537158), abs=1e-6)
    assert found.p_value == pytest.approx(2 * stats.norm.sf(10 / 102 / 0.0537158), abs=1e-6)
    assert found.told_apart is False


def test_equal_predictions_are_not_certain() -> None:
    sample = MeanSample(np.ones((2, 50), dtype=np.float32), "share", binary=True)
    found = paired_comparison(sample, 1)
    assert found.bounds is not None and found.bounds[0] < 0 < found.bounds[1] and found.p_value == 1
    losses = MeanSample(np.random.default_rng(0).gamma(2.0, size=(1, 50)).repeat(2, axis=0))
    assert paired_comparison(losses, -1).told_apart is None


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(-0.6, 0.6), st.booleans())
def test_p_value_and_interval_agree(seed, shift, binary) -> None:
    random = np.random.default_rng(seed)
    if binary:
        values = (random.random((2, 80)) < [[0.6 + shift / 2], [0.6]]).astype(np.float32)
        sample = MeanSample(values, "share", binary=True)
    else:
        sample = MeanSample(random.gamma(2.0, size=(2, 80)) + [[shift], [0.0]])
    found = paired_comparison(sample, -1)
    if found.p_value is not None and abs(found.p_value - 0.05) > 1e-4:
        assert found.told_apart is (found.p_value < 0.05)


@settings(max_examples=30, deadline=None)
@given(st.integers(12, 400), st.integers(0, 10**6))
def test_paired_means_are_the_paired_t_test(examples, seed) -> None:
    values = np.random.default_rng(seed).gamma(4.0, size=(2, examples))
    found = paired_comparison(MeanSample(values), -1)
    expected = stats.ttest_rel(values[1], values[0])
    assert found.p_value == pytest.approx(expected.pvalue, abs=1e-3)
    assert found.bounds == pytest.approx(tuple(expected.confidence_interval()), abs=1e-3)


def test_paired_ratios_are_close_to_their_bootstrap() -> None:
    random = np.random.default_rng(5)
    tokens = random.integers(5, 40, size=500).astype(float)
    sample = RatioSample(tokens * random.gamma(4.0, size=(2, 500)), tokens)
    found, drawn = paired_comparison(sample, -1), replicates(sample)
    assert found.half_width == pytest.approx(1.965 * (drawn[:, 1] - drawn[:, 0]).std(), rel=0.05)


@pytest.mark.parametrize("examples", [12, 300])
def test_few_disagreements_are_counted_exactly(examples) -> None:
    for better in range(7):
        for worse in range(6):
            hits = np.ones((2, examples), dtype=np.float32)
            hits[1, :better], hits[0, better : better + worse] = 0, 0
            found = paired_comparison(MeanSample(hits, "share", binary=True), 1)
            exact = stats.binomtest(better, better + worse).pvalue if better + worse else 1.0
            assert found.p_value == pytest.approx(exact) and found.told_apart is (found.p_value < 0.05)

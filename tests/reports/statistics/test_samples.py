import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from reports.statistics import MacroF1Sample, MeanSample, RatioSample, estimates, replicates, resample_counts

SHAPES = st.tuples(st.integers(1, 4), st.integers(2, 25), st.integers(0, 10**6))


def drawn(counts: np.ndarray) -> np.ndarray:
    """The positions that a row of counts stands for."""
    return np.repeat(np.arange(len(counts)), counts.astype(int))


def naive(sample, metric) -> np.ndarray:
    """The metric on every resample, one example after the other."""
    (batch,) = resample_counts(sample.examples, 7, seed=3)
    return np.array([[metric(trial, drawn(row)) for trial in range(len(estimates(sample)))] for row in batch])


def check(sample, metric) -> None:
    everything = np.arange(sample.examples)
    trials = range(len(estimates(sample)))
    np.testing.assert_allclose(estimates(sample), [metric(trial, everything) for trial in trials])
    np.testing.assert_allclose(replicates(sample, resample_counts(sample.examples, 7, seed=3)), naive(sample, metric))
    without = [[metric(trial, np.delete(everything, i)) for i in everything] for trial in trials]
    np.testing.assert_allclose(sample.leave_one_out(), without, atol=1e-12)
    last = sample.take([len(trials) - 1])
    np.testing.assert_allclose(estimates(last), estimates(sample)[-1:])


@settings(max_examples=30, deadline=None)
@given(SHAPES)
def test_means_equal_a_loop(shape) -> None:
    trials, examples, seed = shape
    values = np.random.default_rng(seed).gamma(2.0, size=(trials, examples))
    check(MeanSample(values), lambda trial, at: sum(values[trial, i] for i in at) / len(at))
    hits = (values > 1.5).astype(np.float32)
    check(MeanSample(hits, "share", binary=True), lambda trial, at: sum(hits[trial, i] for i in at) / len(at))


@settings(max_examples=30, deadline=None)
@given(SHAPES, st.sampled_from(["loss", "perplexity"]))
def test_ratios_equal_a_loop(shape, kind) -> None:
    trials, examples, seed = shape
    random = np.random.default_rng(seed)
    tokens, nll = random.integers(1, 9, size=examples).astype(float), random.gamma(2.0, size=(trials, examples))

    def metric(trial, at):
        loss = sum(nll[trial, i] for i in at) / sum(tokens[i] for i in at)
        return np.exp(loss) if kind == "perplexity" else loss

    check(RatioSample(nll, tokens, kind), metric)


@settings(max_examples=30, deadline=None)
@given(SHAPES, st.integers(2, 4))
def test_macro_f1_equals_scikit_learn(shape, classes) -> None:
    trials, examples, seed = shape
    random = np.random.default_rng(seed)
    # the last class is rare: resamples without it must count it as 0
    labels = np.minimum(random.integers(0, classes + 1, size=examples), classes - 1)
    predictions = random.integers(0, classes, size=(trials, examples))

    def metric(trial, at):
        return f1_score(labels[at], predictions[trial, at], labels=range(classes), average="macro", zero_division=0)

    check(MacroF1Sample(labels, predictions, classes), metric)


def test_resamples_add_up_and_follow_the_seed() -> None:
    rows = np.concatenate(list(resample_counts(50_000, 200, seed=1)))
    assert rows.shape == (200, 50_000) and (rows.sum(axis=1) == 50_000).all()
    again = np.concatenate(list(resample_counts(50, 200, seed=1)))
    np.testing.assert_array_equal(again, np.concatenate(list(resample_counts(50, 200, seed=1))))
    assert (again != np.concatenate(list(resample_counts(50, 200, seed=2)))).any()


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
def test_large_samples_take_seconds(metric) -> None:
    import time

    random = np.random.default_rng(0)
    labels, predictions = random.integers(0, 3, 10_000), random.integers(0, 3, (64, 10_000))
    hits = (labels == predictions).astype(np.float32)
    sample = MeanSample(hits, "share", binary=True) if metric == "accuracy" else MacroF1Sample(labels, predictions, 3)
    started = time.perf_counter()
    assert replicates(sample).shape == (2000, 64)
    assert time.perf_counter() - started < 20

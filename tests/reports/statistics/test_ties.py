import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.statistics import MeanSample, estimates, optimism, replicates, resample_counts, simultaneous_level, tie_set
from reports.statistics.noise import grain, scaled_noise
from reports.statistics.normal import Z95
from reports.statistics.scales import restore, stabilise
from reports.statistics.ties import MARGIN


def ties_of(sample, sign=1, drawn=None, **options):
    drawn = replicates(sample) if drawn is None else drawn
    names = tuple(f"t{i}" for i in range(len(estimates(sample))))
    return tie_set(names, sample, drawn, sign, **options)


def hits(*rates, examples=400, seed=0):
    random = np.random.default_rng(seed)
    difficulty = random.random(examples)
    own = random.random((len(rates), examples))
    right = 0.7 * difficulty + 0.3 * own < np.array(rates)[:, None]
    return MeanSample(right.astype(np.float32), "share", binary=True)


def naive_ties(sample, sign, drawn, risk):
    """The same by loops over trials and resamples."""
    scaled, centred = scaled_noise(sample, drawn, grain(sample))
    value, noise = [sign * float(one) for one in scaled], [[sign * float(one) for one in row] for row in centred]
    size = len(value)
    error = {
        (i, j): float(np.std([row[j] - row[i] for row in noise], ddof=1))
        for i, j in itertools.product(range(size), repeat=2)
        if i != j
    }
    error = {pair: 0.0 if one < 1e-12 else one for pair, one in error.items()}
    p_values, behind = [], [0.0] * size
    for i in range(size):
        lead, null = 0.0, [0.0] * len(noise)
        for j in range(size):
            if i == j or error[i, j] == 0:
                continue
            lead = max(lead, (value[j] - value[i]) / error[i, j])
            null = [max(best, (row[j] - row[i]) / error[i, j]) for best, row in zip(null, noise, strict=True)]
        p_values.append((1 + sum(one >= lead - 1e-9 for one in null)) / (1 + len(null)))
        reach = float(np.quantile(null, 1 - risk))
        for j in range(size):
            if i != j:
                behind[j] = max(behind[j], value[i] - value[j] + reach * error[i, j])
    return p_values, behind


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.integers(10, 40), st.integers(0, 10**6), st.sampled_from([1, -1]), st.booleans())
def test_equals_the_naive_version(trials, examples, seed, sign, binary) -> None:
    random = np.random.default_rng(seed)
    values = random.gamma(2.0, size=(trials, examples))
    if trials > 2:
        values[1] = values[0]
    sample = MeanSample((values > 1).astype(np.float32), "share", binary=True) if binary else MeanSample(values)
    drawn = replicates(sample, resample_counts(examples, 60, seed=seed))
    found = ties_of(sample, sign, drawn)
    p_values, behind = naive_ties(sample, sign, drawn, MARGIN * 0.05)
    np.testing.assert_allclose(found.p_values, p_values)
    size, kind = grain(sample), sample.kind
    scaled, noise = scaled_noise(sample, drawn, size)
    bounds = []
    for at in (scaled, scaled - sign * Z95 * noise.std(axis=0)):
        away = restore(at + sign * np.array(behind), kind, size)
        bounds.append(sign * (away - restore(at, kind, size)))
    np.testing.assert_allclose(found.behind_at_most, np.maximum(0, np.max(bounds, axis=0)), atol=1e-9)
    assert found.members.tolist() == [p > MARGIN * 0.05 for p in p_values]


def test_the_best_is_always_in_and_the_worst_out() -> None:
    found = ties_of(hits(0.9, 0.89, 0.6, 0.3))
    assert found.members.tolist() == [True, True, False, False]
    assert found.best in (0, 1) and found.p_values[found.best] > 0.5 and found.behind[found.best] == 0
    assert (found.behind_at_most >= found.behind).all() and found.at_most_behind("t3") > 0.5
    assert found.member_ids == ("t0", "t1")


def test_lower_is_better() -> None:
    random = np.random.default_rng(0)
    losses = MeanSample(random.gamma(2.0, size=500) * np.array([[1.0], [1.0], [3.0]]) + random.normal(0, 0.1, (3, 500)))
    found = ties_of(losses, -1)
    assert found.members.tolist() == [True, True, False] and found.behind[2] > 3


def test_pairing_tells_apart_what_two_intervals_do_not() -> None:
    # 300 examples; the second trial misses what the first does, and 12 more
    base = np.arange(300) < 240
    worse = np.arange(300) < 228
    sample = MeanSample(np.stack([base, worse]).astype(np.float32), "share", binary=True)
    assert ties_of(sample).members.tolist() == [True, False]


def test_equal_and_extreme_outcomes() -> None:
    same = MeanSample(np.tile(np.arange(50) < 30, (3, 1)).astype(np.float32), "share", binary=True)
    # equal answers on 50 examples are no proof of equal quality
    assert ties_of(same).members.all() and (ties_of(same).behind_at_most > 0).all()
    extreme = MeanSample(np.array([[1.0] * 50, [0.0] * 50, [1.0] * 50]), "share", binary=True)
    assert ties_of(extreme).members.tolist() == [True, False, True]
    alone = MeanSample(np.random.default_rng(0).random((1, 30)))
    assert ties_of(alone).members.tolist() == [True]


def share_of_members(draw, sign, repetitions=40):
    """How often the set holds any given one of equal trials."""
    random, held = np.random.default_rng(0), []
    for seed in range(repetitions):
        sample = draw(random)
        drawn = replicates(sample, resample_counts(sample.examples, 300, seed=seed))
        held.append(ties_of(sample, sign, drawn).members.mean())
    return np.mean(held)


def test_equal_trials_with_few_errors_stay_in() -> None:
    def perfect_but_for(random):
        return MeanSample((random.random((16, 600)) < 0.995).astype(np.float32), "share", binary=True)

    assert share_of_members(perfect_but_for, 1) > 0.95


def test_equal_overconfident_trials_stay_in() -> None:
    def rarely_wrong(random):
        return MeanSample(np.where(random.random((16, 200)) < 0.99, 0.02, 5.0) * random.uniform(0.5, 1.5, (16, 200)))

    assert share_of_members(rarely_wrong, -1) > 0.95


def test_nearly_equal_trials_are_no_certainty() -> None:
    def nearly_equal(random):
        return MeanSample(random.gamma(2.0, size=300) * (1 + 1e-6 * random.standard_normal((2, 300))))

    assert share_of_members(nearly_equal, -1) > 0.9


def test_what_may_be_given_up_near_100_percent() -> None:
    random = np.random.default_rng(0)
    # the best has 99.8 %, fifteen others 99 %; by luck many of these are right on all of 200
    rates, held = np.array([0.998] + [0.99] * 15)[:, None], []
    for seed in range(30):
        sample = MeanSample((random.random((16, 200)) < rates).astype(np.float32), "share", binary=True)
        found = ties_of(sample, 1, replicates(sample, resample_counts(200, 300, seed=seed)))
        held.append((found.behind_at_most[1:] >= 0.008).all())
    assert np.mean(held) >= 0.95


@pytest.mark.parametrize("binary", [True, False])
def test_few_examples_rule_nothing_out(binary) -> None:
    for examples in (1, 3, 9):
        values = np.stack([np.ones(examples), np.zeros(examples)]) + (0 if binary else 0.5)
        sample = MeanSample(values, "share" if binary else "loss", binary=binary)
        assert ties_of(sample, 1 if binary else -1).members.all()


def test_the_one_error_rule_is_inside_the_set() -> None:
    found = ties_of(hits(0.8, 0.795, 0.78, 0.77, 0.5, examples=300, seed=3))
    assert found.within_one_error[found.best] and (found.members | ~found.within_one_error).all()


@pytest.mark.parametrize("kind", ["share", "loss", "perplexity"])
def test_scales_keep_order_and_can_be_undone(kind) -> None:
    span = {"share": (0.001, 1), "loss": (0.01, 50), "perplexity": (1.01, 1e4)}[kind]
    values = np.geomspace(*span, 9)
    scaled = stabilise(values, kind, 1 / 200)
    assert (np.diff(scaled) > 0).all()
    np.testing.assert_allclose(restore(scaled, kind, 1 / 200), values, rtol=1e-9)


def test_simultaneous_level() -> None:
    sample = hits(0.8, 0.8, 0.8)
    drawn = replicates(sample)

    def level(at):
        return simultaneous_level(sample.take(at), drawn[:, at])

    assert level([0]) == 0.95 and level([0, 0]) == pytest.approx(0.95, abs=0.01)
    # between one trial alone and Bonferroni over three
    assert 0.95 < level([0, 1, 2]) < 1 - 0.05 / 3 + 0.004
    independent = MeanSample(np.random.default_rng(1).normal(5, 1, size=(3, 400)))
    found = simultaneous_level(independent, replicates(independent))
    assert found == pytest.approx(0.95 ** (1 / 3), abs=0.006)
    # without an error no resample differs, and yet three intervals must hold
    perfect = MeanSample(np.ones((3, 200), dtype=np.float32), "share", binary=True)
    assert simultaneous_level(perfect, replicates(perfect)) == pytest.approx(0.95 ** (1 / 3), abs=0.006)


def test_optimism_of_the_best_of_equals_and_of_a_clear_winner() -> None:
    true, guessed = [], []
    for seed in range(40):
        random = np.random.default_rng(seed)
        sample = MeanSample(random.normal(10, 1, size=(16, 100)))
        true.append(10 - estimates(sample).min())
        guessed.append(optimism(estimates(sample), replicates(sample, resample_counts(100, 400, seed=seed)), -1))
    assert np.mean(guessed) == pytest.approx(np.mean(true), rel=0.15)
    clear = hits(0.9, 0.4)
    assert optimism(estimates(clear), replicates(clear), 1) == pytest.approx(0, abs=2e-3)

"""A forest that predicts a trial's quality from its hyperparameters, and what it says about each of them.

Trials are resampled B times. On each resample a forest of extremely randomised trees (Geurts, Ernst & Wehenkel 2006) is
grown and asked about the trials that the resample left out, so that every prediction is of a trial that the forest has
not seen. The spread over the resamples is the uncertainty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

RESAMPLES = 100
TREES = 8
_LEAF = 2
_DONORS = 1000
_LEVEL = (2.5, 97.5)


@dataclass(frozen=True)
class Surrogate:
    """What the forests say about n trials with K hyperparameters.

    Attributes:
        importance: [K], see `fit_surrogate`.
        bounds: [K, 2], its 95 % interval.
        r_squared: of the predictions for trials that were left out, against the mean of the others; at most 1, and
            below 0 where the mean would have been the better prediction.
        r_squared_bounds: its 95 % interval over trials.
        dependence: for every hyperparameter [G, 3]: the mean prediction at each value of its grid, and its 95 % band.
    """

    importance: Floats
    bounds: Floats
    r_squared: float
    r_squared_bounds: tuple[float, float]
    dependence: tuple[Floats, ...]


def fit_surrogate(
    columns: Sequence[Floats], values: Floats, grids: Sequence[Floats], *, resamples: int = RESAMPLES, seed: int = 0
) -> Surrogate:
    """Fit the forests.

    The importance of a hyperparameter is half the rise in squared error when its value is replaced by that of another
    trial, over the variance of the quality. For a perfect prediction that is its total Sobol index (Jansen 1999): the
    share of the variance that goes with it, alone or together with others; a prediction that misses something makes it
    smaller. Shares of hyperparameters that act together add up to more than 1.

    Args:
        columns: for each hyperparameter [n, c]: one number, or a column for each category. n at least 4.
        values: [n], the qualities, not all equal.
        grids: for each hyperparameter [G, c], where its mean prediction is wanted.
        resamples: B.
        seed: of everything random.
    """
    random = np.random.default_rng(seed)
    table = np.concatenate(columns, axis=1).astype(np.float32)
    places = _places(columns)
    trials = len(values)
    seen = _Sums(trials, len(columns))
    rises, curves = [], []
    for _ in range(resamples):
        rows = random.integers(0, trials, trials)
        out = np.setdiff1d(np.arange(trials), rows)
        if not len(out):
            continue
        forest = _grow(table[rows], values[rows], random)
        rises.append(seen.add(forest, table, values, out, places, random))
        curves.append(_dependence(forest, table, places, grids, random))
    variance = float(values.var(ddof=1))
    low, high = np.percentile(np.array(rises) / (2 * variance), _LEVEL, axis=0)
    r_squared, r_bounds = _r_squared(values, seen.predictions(), random)
    return Surrogate(
        importance=seen.rise() / (2 * variance),
        bounds=np.column_stack([low, high]),
        r_squared=r_squared,
        r_squared_bounds=r_bounds,
        dependence=tuple(_banded([one[k] for one in curves]) for k in range(len(columns))),
    )


class _Sums:
    """What was predicted for each trial while it was left out, and how much worse without each hyperparameter."""

    def __init__(self, trials: int, hyperparameters: int) -> None:
        self.count = np.zeros(trials)
        self.predicted = np.zeros(trials)
        self.risen = np.zeros((trials, hyperparameters))

    def add(
        self,
        forest: Sequence[Any],
        table: npt.NDArray[np.float32],
        values: Floats,
        out: npt.NDArray[np.int64],
        places: Sequence[slice],
        random: np.random.Generator,
    ) -> Floats:
        """Ask one forest about the trials it has not seen; the mean rise in squared error, [K]."""
        donors = max(1, min(16, _DONORS // len(values)))
        blocks = [table[out]]
        for place in places:
            block = np.repeat(table[out], donors, axis=0)
            block[:, place] = table[random.integers(0, len(values), len(block)), place]
            blocks.append(block)
        predicted = _predict(forest, np.concatenate(blocks))
        own, rest = predicted[: len(out)], predicted[len(out) :].reshape(len(places), len(out), donors)
        errors = (values[out] - own) ** 2
        rise = ((values[out][None, :, None] - rest) ** 2).mean(axis=2).T - errors[:, None]
        self.count[out] += 1
        self.predicted[out] += own
        self.risen[out] += rise
        return np.asarray(rise.mean(axis=0))

    def predictions(self) -> Floats:
        return self.predicted / np.maximum(self.count, 1)

    def rise(self) -> Floats:
        """[K], each trial counting the same."""
        return np.asarray((self.risen / np.maximum(self.count, 1)[:, None]).mean(axis=0))


def _places(columns: Sequence[Floats]) -> list[slice]:
    ends = np.cumsum([column.shape[1] for column in columns])
    return [slice(int(end) - column.shape[1], int(end)) for end, column in zip(ends, columns, strict=True)]


def _grow(table: npt.NDArray[np.float32], values: Floats, random: np.random.Generator) -> list[Any]:
    from sklearn.tree import ExtraTreeRegressor  # loads for a second: only who asks for it waits

    seeds = random.integers(0, 2**31, TREES)
    return [
        ExtraTreeRegressor(min_samples_leaf=_LEAF, random_state=int(seed)).fit(table, values).tree_ for seed in seeds
    ]


def _predict(forest: Sequence[Any], table: npt.NDArray[np.float32]) -> Floats:
    return np.asarray(np.mean([tree.predict(table)[:, 0] for tree in forest], axis=0))


def _dependence(
    forest: Sequence[Any],
    table: npt.NDArray[np.float32],
    places: Sequence[slice],
    grids: Sequence[Floats],
    random: np.random.Generator,
    others: int = 60,
) -> list[Floats]:
    """For each hyperparameter the mean prediction at each value of its grid (Friedman 2001), all else as in trials."""
    base = table[random.integers(0, len(table), min(others, len(table)))]
    blocks = []
    for place, grid in zip(places, grids, strict=True):
        block = np.tile(base, (len(grid), 1))
        block[:, place] = np.repeat(grid, len(base), axis=0)
        blocks.append(block)
    predicted = _predict(forest, np.concatenate(blocks))
    sizes = np.cumsum([len(block) for block in blocks])[:-1]
    return [
        part.reshape(len(grid), -1).mean(axis=1) for part, grid in zip(np.split(predicted, sizes), grids, strict=True)
    ]


def _banded(curves: Sequence[Floats]) -> Floats:
    stacked = np.array(curves)
    low, high = np.percentile(stacked, _LEVEL, axis=0)
    return np.column_stack([stacked.mean(axis=0), low, high])


def _r_squared(
    values: Floats, predictions: Floats, random: np.random.Generator, resamples: int = 1000
) -> tuple[float, tuple[float, float]]:
    """Against the mean of the other trials, which has not seen the trial either."""
    trials = len(values)
    rest = ((values - values.mean()) * trials / (trials - 1)) ** 2
    errors = (values - predictions) ** 2
    drawn = random.integers(0, trials, (resamples, trials))
    sums = rest[drawn].sum(axis=1)
    found = 1 - errors[drawn].sum(axis=1)[sums > 0] / sums[sums > 0]
    low, high = np.percentile(found, _LEVEL)
    return 1 - float(errors.sum() / rest.sum()), (float(low), float(high))

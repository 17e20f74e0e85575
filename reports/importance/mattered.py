"""Which hyperparameters mattered, and quality over each of them, from one fit to the trials."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from lora_sweep.store import RunFolder
from reports import units
from reports.importance.comparable import MOST_DISTINCT, Comparable, Hyperparameter, comparable, sampled
from reports.importance.surrogate import Floats, Surrogate, fit_surrogate
from reports.results import Results, read_results

FEWEST = 10
"""With fewer trials nothing is fitted."""
MOST_FITTED = 600
"""The forests see at most this many trials, drawn at random."""
MOST_DOTS = 1000
"""A figure shows at most this many trials, drawn at random."""
WEAK = 0.3
"""Below this R², or when its interval reaches 0, importances mean little."""
ENTANGLED = 0.6
"""From this correlation on, two hyperparameters can hardly be told apart."""
_GRID = 15


@dataclass(frozen=True)
class Importance:
    """The share of the variance in quality that goes with one hyperparameter, and its 95 % interval."""

    hyperparameter: Hyperparameter
    share: float
    bounds: tuple[float, float]


@dataclass(frozen=True)
class Dot:
    """One trial in a figure; `x` is a number, or the name of a category."""

    trial_id: str
    status: str
    x: float | str
    value: float


@dataclass(frozen=True)
class CurvePoint:
    """The mean prediction at one value and its 95 % band; without a model the median, and no band."""

    x: float | str
    middle: float
    low: float
    high: float


@dataclass(frozen=True)
class Marginal:
    """Quality over one hyperparameter.

    Attributes:
        hyperparameter: which.
        values: what it was, in order, when it is shown value by value; empty for a range.
        dots: trials, at most `MOST_DOTS`.
        curve: at each of `values`, or over the range; empty for a range without a model.
    """

    hyperparameter: Hyperparameter
    values: tuple[float | str, ...]
    dots: tuple[Dot, ...]
    curve: tuple[CurvePoint, ...]


@dataclass(frozen=True)
class Mattered:
    """What mattered.

    Attributes:
        table: the trials that it is about.
        rows: the most important first; empty when nothing was fitted.
        fitted: trials that the model was fitted to.
        r_squared: how well it predicts trials that it has not seen (1 is perfect), with its 95 % interval over trials.
        missing: why nothing was fitted; empty when it was.
        entangled: pairs of titles that went together in these trials, with the size of their correlation.
        marginals: for every hyperparameter that varied, the most important first.
    """

    table: Comparable
    rows: tuple[Importance, ...]
    fitted: int
    r_squared: float
    r_squared_bounds: tuple[float, float]
    missing: str
    entangled: tuple[tuple[str, str, float], ...]
    marginals: tuple[Marginal, ...]

    @property
    def weak(self) -> bool:
        """Whether the model predicts too badly for its importances to mean much."""
        return self.r_squared < WEAK or self.r_squared_bounds[0] <= 0


def get_mattered_info(run: RunFolder | Results) -> Mattered:
    """Importances and marginals of the hyperparameters that varied (docs/report.md)."""
    table = comparable(read_results(run))
    missing = _missing(table)
    rows = sampled(len(table.trials), MOST_FITTED)
    part = table.trials.iloc[list(rows)]
    grids = {one.name: _grid(table, one) for one in table.varied}
    found = None if missing else _fit(part, table, grids)
    order = sorted(range(len(table.varied)), key=lambda k: -found.importance[k] if found is not None else float(k))
    return Mattered(
        table=table,
        rows=() if found is None else tuple(_importance(found, k, table.varied[k]) for k in order),
        fitted=0 if found is None else len(part),
        r_squared=float("nan") if found is None else found.r_squared,
        r_squared_bounds=(float("nan"), float("nan")) if found is None else found.r_squared_bounds,
        missing=missing,
        entangled=tuple(_entangled(part, table.varied)),
        marginals=tuple(
            _marginal(table, table.varied[k], grids, None if found is None else found.dependence[k]) for k in order
        ),
    )


def _missing(table: Comparable) -> str:
    count = len(table.trials)
    if count < FEWEST:
        return (
            f"{units.plural(count, 'trial')} can be compared, which is too few to say which hyperparameter mattered "
            f"(at least {FEWEST} are needed)."
        )
    if not table.varied:
        return "All trials have the same hyperparameters."
    if table.trials["value"].nunique() == 1:
        return "All trials reached the same quality."
    return ""


def _fit(part: pd.DataFrame, table: Comparable, grids: dict[str, Sequence[float | str]]) -> Surrogate:
    columns = [_encoded(part[one.name].tolist(), one, grids[one.name]) for one in table.varied]
    encoded = [_encoded(grids[one.name], one, grids[one.name]) for one in table.varied]
    return fit_surrogate(columns, part["value"].to_numpy(dtype=float), encoded)


def _encoded(values: Sequence[float | str], one: Hyperparameter, known: Sequence[float | str]) -> Floats:
    """[n, 1] numbers, or [n, categories] of 0 and 1."""
    if one.kind == "number":
        return np.array(values, dtype=float)[:, None]
    return np.array([[float(value == name) for name in known] for value in values])


def _grid(table: Comparable, one: Hyperparameter) -> Sequence[float | str]:
    """Where the mean prediction is wanted: every value, or steps over the range; the commonest of many categories."""
    if one.kind == "category":
        common = [name for name, _ in Counter(table.trials[one.name]).most_common(MOST_DISTINCT)]
        return sorted(map(str, common))
    if table.is_discrete(one):
        return table.values_of(one)
    values = table.trials[one.name].to_numpy(dtype=float)
    low, high = float(values.min()), float(values.max())
    spread = np.geomspace if one.log and low > 0 else np.linspace
    return [float(x) for x in spread(low, high, _GRID)]


def _importance(found: Surrogate, k: int, one: Hyperparameter) -> Importance:
    low, high = found.bounds[k]
    return Importance(one, float(found.importance[k]), (float(low), float(high)))


def _marginal(
    table: Comparable, one: Hyperparameter, grids: dict[str, Sequence[float | str]], dependence: Floats | None
) -> Marginal:
    grid = grids[one.name]
    rows = table.trials.iloc[list(sampled(len(table.trials), MOST_DOTS))]
    dots = tuple(
        Dot(str(name), str(status), x, float(value))
        for name, status, x, value in zip(rows["trial_id"], rows["status"], rows[one.name], rows["value"], strict=True)
        if one.kind == "number" or x in grid
    )
    discrete = table.is_discrete(one)
    curve: tuple[CurvePoint, ...] = ()
    if dependence is not None:
        curve = tuple(CurvePoint(x, *map(float, row)) for x, row in zip(grid, dependence, strict=True))
    elif discrete:
        medians = table.trials.groupby(one.name)["value"].median()
        curve = tuple(CurvePoint(x, *[float(medians[x])] * 3) for x in grid)
    return Marginal(one, tuple(grid) if discrete else (), dots, curve)


def _entangled(part: pd.DataFrame, varied: Sequence[Hyperparameter]) -> list[tuple[str, str, float]]:
    """Pairs whose ranks (or membership of a category) correlate strongly."""
    if len(part) < 3:
        return []
    ranked = {one.name: _centred(part[one.name], one) for one in varied}
    found = []
    for first, second in combinations(varied, 2):
        size = float(np.abs(ranked[first.name].T @ ranked[second.name]).max())
        if size >= ENTANGLED:
            found.append((first.title, second.title, size))
    return sorted(found, key=lambda pair: -pair[2])


def _centred(column: pd.Series[float], one: Hyperparameter) -> Floats:
    """[n, c] of zero mean and unit length."""
    ranks = pd.get_dummies(column) if one.kind == "category" else column.astype(float).rank().to_frame()
    values = ranks.to_numpy(dtype=float)
    values = values - values.mean(axis=0)
    return np.asarray(values / np.maximum(np.linalg.norm(values, axis=0), 1e-12))

"""Trials as lines over all hyperparameters at once, and rank against learning rate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from reports import units
from reports.importance.comparable import Comparable, Hyperparameter, sampled
from reports.importance.mattered import MOST_DOTS
from reports.metric import Metric

MOST_LINES = 500
"""Trials drawn as lines: the best half of them, and of the others as many at random."""


@dataclass(frozen=True)
class Axis:
    """One upright axis: its title, and where which text stands on it, from 0 (bottom) to 1."""

    title: str
    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Line:
    """One trial: a height from 0 to 1 on each axis, the last being its quality."""

    trial_id: str
    value: float
    heights: tuple[float, ...]


@dataclass(frozen=True)
class ParallelInfo:
    """Trials as lines; `lines` stands from the worst to the best, of `total` trials."""

    metric: Metric
    axes: tuple[Axis, ...]
    lines: tuple[Line, ...]
    total: int


@dataclass(frozen=True)
class MapInfo:
    """Rank against learning rate.

    Attributes:
        metric: the quality.
        points: trial, rate, rank and quality; empty where `cells` are there.
        cells: rate, rank, median quality and number of trials, where rates come from a list.
    """

    metric: Metric
    points: tuple[tuple[str, float, float, float], ...]
    cells: tuple[tuple[float, float, float, int], ...]


def get_parallel_info(table: Comparable) -> ParallelInfo | None:
    """The trials over all hyperparameters that varied; None with fewer than two of these or three trials."""
    if len(table.varied) < 2 or len(table.trials) < 3:
        return None
    shown = _leading_and_others(table)
    heights, axes = [], []
    for one in table.varied:
        axis, column = _axis(table, one, shown)
        axes.append(axis)
        heights.append(column)
    quality, column = _quality_axis(table, shown)
    stacked = np.column_stack([*heights, column])
    lines = tuple(
        Line(str(name), float(value), tuple(float(x) for x in row))
        for name, value, row in zip(shown["trial_id"], shown["value"], stacked, strict=True)
    )
    return ParallelInfo(table.metric, (*axes, quality), lines, len(table.trials))


def get_map_info(table: Comparable) -> MapInfo | None:
    """Rank against learning rate; None unless both varied."""
    varied = {one.name: one for one in table.varied}
    if not {"rank", "learning_rate"} <= set(varied):
        return None
    trials = table.trials
    if table.is_discrete(varied["learning_rate"]) and table.is_discrete(varied["rank"]):
        groups = trials.groupby(["learning_rate", "rank"])["value"].agg(["median", "size"]).reset_index()
        rows = groups.to_numpy(dtype=float)
        return MapInfo(table.metric, (), tuple((rate, rank, mid, int(size)) for rate, rank, mid, size in rows))
    part = trials.iloc[list(sampled(len(trials), MOST_DOTS))]
    columns = (part["trial_id"], part["learning_rate"], part["rank"], part["value"])
    points = tuple((str(a), float(b), float(c), float(d)) for a, b, c, d in zip(*columns, strict=True))
    return MapInfo(table.metric, points, ())


def _leading_and_others(table: Comparable) -> pd.DataFrame:
    """From the worst to the best."""
    ordered = table.trials.sort_values("value", ascending=table.metric.mode == "max", kind="stable")
    if len(ordered) <= MOST_LINES:
        return ordered
    half = MOST_LINES // 2
    others = ordered.iloc[list(sampled(len(ordered) - half, half))]
    return pd.concat([others, ordered.iloc[-half:]])


def _axis(table: Comparable, one: Hyperparameter, shown: pd.DataFrame) -> tuple[Axis, list[float]]:
    column = shown[one.name].tolist()
    if table.is_discrete(one):
        values = table.values_of(one)
        places = {value: i / max(1, len(values) - 1) for i, value in enumerate(values)}
        said = [value if isinstance(value, str) else units.number(value) for value in values]
        ticks = tuple((place, text) for place, text in zip(places.values(), said, strict=True))
        return Axis(one.title, ticks), _spread([places[value] for value in column], len(values))
    low, high = (float(bound) for bound in (table.trials[one.name].min(), table.trials[one.name].max()))
    scale = math.log if one.log and low > 0 else float
    width = scale(high) - scale(low)
    middle = math.exp((scale(low) + scale(high)) / 2) if scale is math.log else (low + high) / 2
    ticks = ((0.0, units.number(low, 2)), (0.5, units.number(middle, 2)), (1.0, units.number(high, 2)))
    return Axis(one.title, ticks), [(scale(value) - scale(low)) / width for value in column]


def _spread(heights: list[float], values: int) -> list[float]:
    """Trials of one value side by side, in the order in which they come, so that lines do not hide each other."""
    room = min(0.08, 0.25 / max(1, values - 1))
    count: Mapping[float, int] = {height: heights.count(height) for height in set(heights)}
    turn = dict.fromkeys(count, 0)
    found = []
    for height in heights:
        shift = (turn[height] + 0.5) / count[height] - 0.5
        found.append(height + room * shift)
        turn[height] += 1
    return found


def _quality_axis(table: Comparable, shown: pd.DataFrame) -> tuple[Axis, list[float]]:
    """The best end is always on top."""
    low, high = float(table.trials["value"].min()), float(table.trials["value"].max())
    worst, best = (low, high) if table.metric.mode == "max" else (high, low)
    width = (best - worst) or 1.0
    ticks = tuple((place, table.metric.text(worst + place * width)) for place in (0.0, 0.5, 1.0))
    return Axis(table.metric.title, ticks), [(float(value) - worst) / width for value in shown["value"]]

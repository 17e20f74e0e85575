"""What each figure shows, as plain data: `figures` draws it, tests read it without a figure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from lora_sweep.store import RunFolder
from reports.crowds import MOST_CURVES, Band, drawn_singly, leading_ids, quantile_band
from reports.frame import NO_TARGETS, whole
from reports.metric import Metric
from reports.pareto import pareto_front
from reports.results import Results, read_results

CostName = Literal["trainable_parameters", "adapter_bytes", "device_seconds", "solo_seconds"]
_SIZES = ("trainable_parameters", "adapter_bytes")


@dataclass(frozen=True)
class TrialPoint:
    """One trial or cut in a scatter plot: `quality` is the kept evaluation, `bounds` its 95 % interval over examples,
    `made` how a cut was made.
    """

    trial_id: str
    status: str
    rank: int | None
    alpha: float
    target_label: str
    learning_rate: float
    quality: float
    cost: float
    reached_step: int | None
    on_front: bool = False
    bounds: tuple[float, float] | None = None
    tied: bool = False
    made: str = ""

    @property
    def is_cut(self) -> bool:
        return bool(self.made)

    @property
    def label(self) -> str:
        """A short name: of a cut, what follows its trial's."""
        return "@" + self.trial_id.partition("@")[2] if self.is_cut else self.trial_id


@dataclass(frozen=True)
class FrontInfo:
    """Quality against one cost.

    Attributes:
        metric: the quality.
        cost: the column of `trial_frame` that is the cost.
        points: complete and stopped trials, and cuts where the cost is a size, whose cost is known and above 0; only
            complete ones can be on the front. Of very many some are left out, see `crowds.drawn_singly`; the front is
            always whole.
        baselines: name and quality of each baseline that has one.
        total: how many trials `points` stand for.
    """

    metric: Metric
    cost: CostName
    points: tuple[TrialPoint, ...]
    baselines: tuple[tuple[str, float], ...]
    total: int = 0

    @property
    def front(self) -> tuple[TrialPoint, ...]:
        """The points on the front, cheapest first."""
        return tuple(sorted((point for point in self.points if point.on_front), key=lambda point: point.cost))


@dataclass(frozen=True)
class RankInfo:
    """Quality over rank: the points, and the median of the complete trials (of all, when none is) at each rank.

    The medians are of all `total` trials, also where `points` has only some of them.
    """

    metric: Metric
    points: tuple[TrialPoint, ...]
    medians: tuple[tuple[int, float], ...]
    total: int = 0

    @property
    def ranks(self) -> tuple[int, ...]:
        return tuple(sorted({point.rank for point in self.points if point.rank is not None}))


@dataclass(frozen=True)
class LearningRateInfo:
    """Quality against the peak learning rate; of very many of the `total` trials some are left out."""

    metric: Metric
    points: tuple[TrialPoint, ...]
    total: int = 0


@dataclass(frozen=True)
class Curve:
    """One trial over its optimizer steps, without the points that have no value."""

    trial_id: str
    status: str
    rank: int | None
    target_label: str
    steps: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class CurvesInfo:
    """Curves over steps of `quantity`: the metric on the evaluation data, or the training loss.

    Attributes:
        quantity: a column of `points_frame`.
        metric: the run's.
        curves: the trials that are drawn singly: all, or of many the leading ones and the finalists.
        band: the middle of all `total` trials where not all are drawn singly; else None.
        total: how many trials have a curve.
    """

    quantity: Literal["quality", "train_loss"]
    metric: Metric
    curves: tuple[Curve, ...]
    band: Band | None = None
    total: int = 0


def get_front_info(run: RunFolder | Results, cost: CostName = "trainable_parameters") -> FrontInfo:
    """Quality against a cost, with the Pareto front of the complete trials and, by size, of their cuts."""
    results = read_results(run)
    trials = front_frame(results, cost)
    known = trials[(trials[cost] > 0) & trials["quality"].notna()]
    lines = results.baselines[results.baselines["quality"].notna()]
    baselines = tuple(
        (str(name), float(quality)) for name, quality in zip(lines["name"], lines["quality"], strict=True)
    )
    return FrontInfo(results.metric, cost, _points(known, cost, results), baselines, len(known))


def front_frame(results: Results, cost: CostName) -> pd.DataFrame:
    """The candidates with a column `on_front`; a stopped or unmeasured one is never on it.

    Cuts are among them where the cost is a size: a cut took the time that its trial took.
    """
    known = results.candidates
    trials = known[(known["kind"] == "trial") | (cost in _SIZES)].copy()
    trials[cost] = trials[cost].astype(float)
    sign = -1.0 if results.metric.mode == "max" else 1.0
    open_to_front = (trials["status"] == "complete") & (trials[cost] > 0)
    costs = np.column_stack([trials[cost].where(open_to_front), sign * trials["quality"].astype(float)])
    trials["on_front"] = pareto_front(costs)
    return trials


def get_rank_info(run: RunFolder | Results) -> RankInfo:
    """Quality over rank; trials that adapt no layer, or whose rank is unknown, have none and are left out."""
    results = read_results(run)
    trials = _scored(results)
    trials = trials[(trials["target_label"] != NO_TARGETS) & trials["rank"].notna()]
    complete = trials[trials["status"] == "complete"]
    medians = (complete if len(complete) else trials).groupby("rank")["quality"].median().sort_index()
    pairs = tuple((int(float(str(rank))), float(value)) for rank, value in medians.items())
    return RankInfo(results.metric, _points(trials, "trainable_parameters", results), pairs, len(trials))


def get_learning_rate_info(run: RunFolder | Results) -> LearningRateInfo:
    """Quality against the peak learning rate."""
    results = read_results(run)
    trials = _scored(results)
    known = trials[trials["learning_rate"].notna()]
    return LearningRateInfo(results.metric, _points(known, "trainable_parameters", results), len(known))


def get_learning_curves_info(run: RunFolder | Results) -> CurvesInfo:
    """The run's metric on the evaluation data over the steps of every trial, failed ones included."""
    results = read_results(run)
    return _curves_info(results, "quality")


def get_loss_curves_info(run: RunFolder | Results) -> CurvesInfo:
    """The mean training loss between evaluations over the steps of every trial."""
    results = read_results(run)
    return _curves_info(results, "train_loss")


def _scored(results: Results) -> pd.DataFrame:
    trials = results.with_status("complete", "stopped")
    return trials[trials["quality"].notna()]


def _points(trials: pd.DataFrame, cost: CostName, results: Results) -> tuple[TrialPoint, ...]:
    tied = results.tied_candidates or frozenset()
    rows = drawn_singly(trials, results).to_dict("records")
    return tuple(
        TrialPoint(
            trial_id=str(row["trial_id"]),
            status=str(row["status"]),
            rank=whole(row["rank"]),
            alpha=float(row["alpha"]),
            target_label=str(row["target_label"]),
            learning_rate=float(row["learning_rate"]),
            quality=float(row["quality"]),
            cost=float(row[cost]),
            reached_step=whole(row["reached_step"]),
            on_front=bool(row.get("on_front", False)),
            bounds=results.interval("eval", str(row["trial_id"]), float(row["quality"])),
            tied=str(row["trial_id"]) in tied,
            made=f"trial {row['source']} {row['made']}" if row.get("made") else "",
        )
        for row in rows
    )


def _curves_info(results: Results, quantity: Literal["quality", "train_loss"]) -> CurvesInfo:
    values = results.points[quantity].astype(float)
    points = results.points.assign(**{quantity: values})[np.isfinite(values)]
    total = int(points["trial_id"].nunique())
    if total <= MOST_CURVES:
        return CurvesInfo(quantity, results.metric, tuple(_curves(points, quantity)), None, total)
    leading = points[points["trial_id"].isin(leading_ids(results))]
    band = quantile_band(points, quantity)
    return CurvesInfo(quantity, results.metric, tuple(_curves(leading, quantity)), band, total)


def _curves(points: pd.DataFrame, column: str) -> Iterator[Curve]:
    for trial_id, rows in points.groupby("trial_id", sort=False):
        first = rows.iloc[0]
        yield Curve(
            trial_id=str(trial_id),
            status=str(first["status"]),
            rank=whole(first["rank"]),
            target_label=str(first["target_label"]),
            steps=tuple(map(int, rows["step"])),
            values=tuple(map(float, rows[column])),
        )

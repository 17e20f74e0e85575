"""What the figures of RUN/analysis/*.json show, as plain data; each is None when that was not measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lora_sweep.store import RunFolder
from reports.figure_info import get_front_info
from reports.metric import Metric
from reports.results import Results, read_results
from reports.statistics import interval

Quantity = Literal["stable_rank", "effective_rank", "energy_share", "rank"]
MOST_LINES = 60
"""Layers drawn one by one; beyond that, the largest updates."""
MOST_ROWS = 48
"""Layers compared by importance; beyond that, those whose loss is the dearest."""
MEASURES = ("gradient_squared", "activation_squared", "sensitivity", "energy_share", "loss_lost", "quality_lost")


@dataclass(frozen=True)
class CutPoint:
    """One cut: `label` says how it was made, `interval` is None where a binomial one does not apply."""

    name: str
    label: str
    parameters: int
    quality: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class RankCurve:
    """One trial's cuts by one method, by rising parameters; the whole adapter ends the curve of uniform ranks."""

    trial_id: str
    method: str
    points: tuple[CutPoint, ...]


@dataclass(frozen=True)
class RankCurvesInfo:
    """Quality against parameters of cut adapters, with the complete trials as they were trained beside.

    Attributes:
        metric: the quality, on evaluation data.
        curves: of each trial and method.
        trained: trial, rank, parameters and quality of complete trials.
    """

    metric: Metric
    curves: tuple[RankCurve, ...]
    trained: tuple[tuple[str, int, int, float], ...]


@dataclass(frozen=True)
class HeatInfo:
    """One quantity over the layers of one trial.

    Attributes:
        trial_id: whose update.
        quantity: what was measured.
        kinds: columns, by name.
        depths: rows, the numbers of the blocks.
        values: a row for every depth; None where a block lacks that layer.
    """

    trial_id: str
    quantity: Quantity
    kinds: tuple[str, ...]
    depths: tuple[int, ...]
    values: tuple[tuple[float | None, ...], ...]


@dataclass(frozen=True)
class SpectraInfo:
    """The singular values of one trial's layers: name, kind, depth and descending values above 0.

    `left_out` layers with smaller updates are not shown.
    """

    trial_id: str
    layers: tuple[tuple[str, str, int, tuple[float, ...]], ...]
    left_out: int


@dataclass(frozen=True)
class NormsInfo:
    """Norms of A, B and the update of one trial at its evaluations."""

    trial_id: str
    steps: tuple[int, ...]
    a: tuple[float, ...]
    b: tuple[float, ...]
    update: tuple[float, ...]


@dataclass(frozen=True)
class ImportanceInfo:
    """Layers by measures of importance.

    Attributes:
        trial_id: whose layers.
        metric: what `quality_lost` is of.
        measures: columns, of `MEASURES`.
        layers: rows, dearest loss first: block and kind of layer, or the full name where there are no blocks.
        values: a row for every layer.
        left_out: layers that are not shown.
    """

    trial_id: str
    metric: Metric
    measures: tuple[str, ...]
    layers: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]
    left_out: int


def analysis_of(results: Results, name: str) -> Mapping[str, Any] | None:
    """RUN/analysis/NAME.json with at least one trial; None without."""
    content = RunFolder(results.path).analysis(name)
    return content if content and content.get("trials") else None


def get_rank_curves_info(run: RunFolder | Results) -> RankCurvesInfo | None:
    """The cuts of every analysed trial."""
    results = read_results(run)
    content = analysis_of(results, "rank_curves")
    if content is None:
        return None
    curves = [
        RankCurve(trial["trial_id"], method, points)
        for trial in content["trials"]
        for method in ("uniform", "global-energy", "layer-energy")
        if (points := _cut_points(trial["cuts"], method, results.metric, content["examples"]))
    ]
    complete = [point for point in get_front_info(results).points if point.status == "complete" and not point.is_cut]
    trained = tuple(
        (point.trial_id, point.rank, int(point.cost), point.quality) for point in complete if point.rank is not None
    )
    return RankCurvesInfo(results.metric, tuple(curves), trained)


def get_heat_info(run: RunFolder | Results, quantity: Quantity) -> HeatInfo | None:
    """A quantity over the layers of the best analysed trial; None also where layers have no depth."""
    content = analysis_of(read_results(run), "spectra")
    layers = [one for one in content["trials"][0]["layers"] if one["depth"] is not None] if content else []
    if content is None or not layers:
        return None
    kinds = tuple(sorted({one["kind"] for one in layers}))
    depths = tuple(sorted({one["depth"] for one in layers}))
    found = {(one["depth"], one["kind"]): float(one[quantity]) for one in layers}
    values = tuple(tuple(found.get((depth, kind)) for kind in kinds) for depth in depths)
    return HeatInfo(content["trials"][0]["trial_id"], quantity, kinds, depths, values)


def get_spectra_info(run: RunFolder | Results) -> SpectraInfo | None:
    """The singular values of the best analysed trial."""
    content = analysis_of(read_results(run), "spectra")
    if content is None:
        return None
    trial = content["trials"][0]
    shown = sorted(trial["layers"], key=lambda one: -one["norm_update"])[:MOST_LINES]
    shown.sort(key=lambda one: (one["kind"], one["depth"] or 0))
    layers = tuple(
        (one["name"], one["kind"], one["depth"] or 0, tuple(value for value in one["singular_values"] if value > 0))
        for one in shown
    )
    return SpectraInfo(trial["trial_id"], layers, len(trial["layers"]) - len(shown))


def get_norms_info(run: RunFolder | Results) -> NormsInfo | None:
    """The norms over time of the best analysed trial; None also for runs that did not note them."""
    content = analysis_of(read_results(run), "spectra")
    points: Sequence[Mapping[str, Any]] = content["trials"][0]["norms"] if content else ()
    if content is None or not points:
        return None
    a, b, update = (tuple(float(point[name]) for point in points) for name in ("a", "b", "update"))
    return NormsInfo(content["trials"][0]["trial_id"], tuple(int(point["step"]) for point in points), a, b, update)


def get_importance_info(run: RunFolder | Results) -> ImportanceInfo | None:
    """The measures of importance of the best analysed trial's layers, side by side."""
    results = read_results(run)
    content = analysis_of(results, "importance")
    if content is None:
        return None
    trial = content["trials"][0]
    rows = sorted(trial["layers"], key=lambda one: -one["loss_lost"])
    shown = rows[:MOST_ROWS]
    # older analyses lack some
    measures = tuple(measure for measure in MEASURES if all(measure in one for one in shown))
    values = tuple(tuple(float(one[measure]) for measure in measures) for one in shown)
    names = tuple(one["name"] if one["depth"] is None else f"{one['depth']} · {one['kind']}" for one in shown)
    return ImportanceInfo(trial["trial_id"], results.metric, measures, names, values, len(rows) - len(shown))


def _cut_points(cuts: Sequence[Mapping[str, Any]], method: str, metric: Metric, examples: int) -> tuple[CutPoint, ...]:
    points = [
        CutPoint(
            name=str(one["name"]),
            label=_label(one),
            parameters=int(one["parameters"]),
            quality=float(one["metrics"][metric.name]),
            interval=interval(metric, float(one["metrics"][metric.name]), examples),
        )
        for one in cuts
        if (one["method"] == method or (one["method"] == "whole" and method == "uniform"))
        and math.isfinite(one["metrics"].get(metric.name, math.nan))
    ]
    return tuple(sorted(points, key=lambda point: point.parameters))


def _label(one: Mapping[str, Any]) -> str:
    share = f"{100 * one['amount']:g} % of the energy"
    texts = {
        "whole": f"rank {one['amount']:g}, not cut",
        "uniform": f"cut to rank {one['amount']:g}",
        "global-energy": f"largest values, {share}",
        "layer-energy": f"{share} of every layer",
    }
    return texts[one["method"]]

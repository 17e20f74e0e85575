"""Quality against trainable parameters over several runs: the data, then the figure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from reports import units
from reports.comparison import RunComparison
from reports.figure_info import TrialPoint, get_front_info
from reports.metric import Metric
from reports.pareto import pareto_front
from reports.style import ACCENT, base_figure, log_ticks, target_marks, text


@dataclass(frozen=True)
class FrontsInfo:
    """The complete trials of all runs whose parameters are known.

    Attributes:
        metric: the quality.
        points: by run.
        front: cost and quality along the common front, cheapest first; empty where the runs had different data.
    """

    metric: Metric
    points: dict[str, tuple[TrialPoint, ...]]
    front: tuple[tuple[float, float], ...]


def get_fronts_info(comparison: RunComparison) -> FrontsInfo:
    """Every run's complete trials, and the front over all of them."""
    points = {}
    for side in comparison.sides:
        found = [one for one in get_front_info(side.results).points if one.status == "complete"]
        points[side.name] = tuple(found)
    pairs = sorted({(one.cost, one.quality) for found in points.values() for one in found})
    if not pairs or comparison.eval_differs:
        return FrontsInfo(comparison.metric, points, ())
    sign = -1.0 if comparison.metric.mode == "max" else 1.0
    mask = pareto_front(np.array(pairs) * [1.0, sign])
    front = tuple(pair for pair, kept in zip(pairs, mask, strict=True) if kept)
    return FrontsInfo(comparison.metric, points, front)


def plot_fronts(info: FrontsInfo) -> go.Figure:
    """One colour and symbol a run; the common front as a line."""
    metric = info.metric
    figure = base_figure("trainable parameters", metric.axis_title(), metric)
    if len(info.front) > 1:
        costs, values = zip(*info.front, strict=True)
        # between two trials nothing was measured: the step claims only what the cheaper one reached
        line = {"color": ACCENT, "width": 2, "shape": "hv"}
        figure.add_scatter(x=costs, y=values, mode="lines", name="front of all runs", line=line, hoverinfo="skip")
    for run, (colour, symbol) in target_marks(info.points).items():
        points = info.points[run]
        figure.add_scatter(
            x=[point.cost for point in points],
            y=[point.quality for point in points],
            mode="markers",
            name=text(run),
            marker={"size": 9, "color": colour, "symbol": symbol, "opacity": 0.85},
            hovertext=[_hover(run, point, metric) for point in points],
            hoverinfo="text",
        )
    costs_shown = [point.cost for points in info.points.values() for point in points]
    figure.update_xaxes(type="log", **log_ticks(costs_shown, units.count))
    return figure


def _hover(run: str, point: TrialPoint, metric: Metric) -> str:
    lines = [
        f"<b>{text(run)}</b>, {text(point.trial_id)}: {metric.text(point.quality)}",
        f"95 % interval {metric.interval_text(point.bounds)}" if point.bounds else "",
        f"{units.rank(point.rank)}, {text(point.target_label)}, {units.count(point.cost)} parameters",
    ]
    return "<br>".join(line for line in lines if line)

"""The figures of a run. Each is `info = get_x_info(run)`, then `plot_x(info)`.

    plot_front(get_front_info(run))                    plot_learning_curves(get_learning_curves_info(run))
    plot_rank(get_rank_info(run))                      plot_loss_curves(get_loss_curves_info(run))
    plot_learning_rate(get_learning_rate_info(run))

Trials that the scheduler stopped are hollow, or end in a cross: their value is not that of a finished trial. Cuts of
trained trials are asterisks in the colour of their target set.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from reports import units
from reports.crowds import Band
from reports.figure_info import (
    Curve,
    CurvesInfo,
    FrontInfo,
    LearningRateInfo,
    RankInfo,
    TrialPoint,
    get_front_info,
    get_learning_curves_info,
    get_learning_rate_info,
    get_loss_curves_info,
    get_rank_info,
)
from reports.metric import Metric
from reports.style import ACCENT, NEUTRAL, base_figure, log_ticks, rank_colours, target_marks, text

__all__ = [
    "get_front_info",
    "get_learning_curves_info",
    "get_learning_rate_info",
    "get_loss_curves_info",
    "get_rank_info",
    "plot_front",
    "plot_learning_curves",
    "plot_learning_rate",
    "plot_loss_curves",
    "plot_rank",
]

_COSTS = {
    "trainable_parameters": ("trainable parameters", units.count),
    "adapter_bytes": ("adapter size", units.size),
    "device_seconds": ("attributed device time", units.duration),
    "solo_seconds": ("device time alone", units.duration),
}

_MOST_BARS = 100  # points in a figure
_CUT = "asterisk-open"
_BAND = "rgba(125,133,144,0.25)"


def plot_front(info: FrontInfo) -> go.Figure:
    """Quality against cost (logarithmic), the Pareto front as a line and the baselines as horizontal ones."""
    title, say = _COSTS[info.cost]
    figure = base_figure(title, _evaluated(info.metric), info.metric)
    _add_front_line(figure, info)
    for label, (colour, symbol) in target_marks(point.target_label for point in info.points).items():
        for cut in (False, True):
            points = [point for point in info.points if point.target_label == label and point.is_cut == cut]
            mark, name = (_CUT, f"{label}, cut") if cut else (symbol, label)
            _add_points(figure, points, name, colour, mark, [say(point.cost) for point in points], info.metric)
    _add_baselines(figure, info)
    figure.update_xaxes(type="log", **log_ticks([point.cost for point in info.points], say))
    _make_room(figure, info.points)
    return figure


def plot_rank(info: RankInfo) -> go.Figure:
    """Quality over rank (log2), the points by target set and their median as a line."""
    figure = base_figure("rank", _evaluated(info.metric), info.metric)
    if info.medians:
        ranks, values = zip(*info.medians, strict=True)
        line = {"color": NEUTRAL, "width": 2, "dash": "dot"}
        figure.add_scatter(x=ranks, y=values, mode="lines", name="median", line=line, hoverinfo="skip")
    marks = target_marks(point.target_label for point in info.points)
    for i, (label, (colour, symbol)) in enumerate(marks.items()):
        points = [point for point in info.points if point.target_label == label]
        # the sets stand a little apart, so that equal ranks do not hide each other
        shift = 2 ** (0.12 * (i - (len(marks) - 1) / 2))
        xs = [(point.rank or math.nan) * shift for point in points]
        _add_points(figure, points, label, colour, symbol, [""] * len(points), info.metric, xs)
        for trace in figure.select_traces({"legendgroup": text(label)}):
            # for the CSV file of the page
            trace.meta = {"x": [round(x / shift) for x in trace.x]}
    figure.update_xaxes(type="log", tickvals=list(info.ranks), ticktext=[str(rank) for rank in info.ranks])
    _make_room(figure, info.points)
    return figure


def plot_learning_rate(info: LearningRateInfo) -> go.Figure:
    """Quality against the peak learning rate (logarithmic), coloured by rank."""
    figure = base_figure("peak learning rate", _evaluated(info.metric), info.metric)
    for rank, colour in rank_colours(point.rank for point in info.points).items():
        points = [point for point in info.points if point.rank == rank]
        rates = [point.learning_rate for point in points]
        extra = [f"rate {units.number(rate)}" for rate in rates]
        _add_points(figure, points, _rank_name(rank), colour, "circle", extra, info.metric, rates)
    figure.update_xaxes(type="log", **log_ticks([point.learning_rate for point in info.points], units.number))
    _make_room(figure, info.points)
    return figure


def plot_learning_curves(info: CurvesInfo) -> go.Figure:
    """The metric on the evaluation data over steps, one line a trial, coloured by rank; of many a band."""
    return _plot_curves(info, base_figure("optimizer steps", _evaluated(info.metric), info.metric), info.metric)


def plot_loss_curves(info: CurvesInfo) -> go.Figure:
    """The training loss over steps, one line a trial, coloured by rank; of many a band."""
    return _plot_curves(info, base_figure("optimizer steps", "training loss"), Metric("loss", "min"))


def _plot_curves(info: CurvesInfo, figure: go.Figure, metric: Metric) -> go.Figure:
    if info.band is not None:
        _add_band(figure, info.band, info.total, metric)
    colours = rank_colours(curve.rank for curve in info.curves)
    named: set[int | None] = set()
    for curve in sorted(info.curves, key=lambda curve: (curve.rank or 0, curve.status != "complete")):
        figure.add_scatter(**_curve(curve, colours[curve.rank], metric), showlegend=curve.rank not in named)
        named.add(curve.rank)
    ends = [curve for curve in info.curves if curve.status != "complete"]
    if ends:
        figure.add_scatter(
            x=[curve.steps[-1] for curve in ends],
            y=[curve.values[-1] for curve in ends],
            ids=[curve.trial_id for curve in ends],
            mode="markers",
            name="ended early",
            hoverinfo="skip",
            marker={"symbol": "x-thin", "size": 9, "line": {"width": 2, "color": [colours[one.rank] for one in ends]}},
        )
    figure.update_xaxes(rangemode="tozero")
    return figure


def _add_band(figure: go.Figure, band: Band, total: int, metric: Metric) -> None:
    """The middle 80 % of all trials as a filled band, their median as a dotted line."""
    name = f"middle 80 % of {total:,} trials"
    rows = zip(band.steps, band.trials, band.median, band.low, band.high, strict=True)
    edge: dict[str, Any] = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "legendgroup": "band"}
    figure.add_scatter(x=band.steps, y=band.low, name=f"{name}: from", showlegend=False, **edge)
    figure.add_scatter(x=band.steps, y=band.high, name=name, fill="tonexty", fillcolor=_BAND, **edge)
    figure.add_scatter(
        x=band.steps,
        y=band.median,
        mode="lines",
        name="median",
        legendgroup="band",
        line={"color": NEUTRAL, "width": 2, "dash": "dot"},
        hovertext=[
            f"step {step}, {trials:,} trials<br>median {metric.text(middle)}<br>"
            f"middle 80 %: {metric.interval_text((low, high))}"
            for step, trials, middle, low, high in rows
        ],
        hoverinfo="text",
    )


def _curve(curve: Curve, colour: str, metric: Metric) -> dict[str, Any]:
    head = f"{text(curve.trial_id)}, {_rank_name(curve.rank)}, {text(curve.target_label)}"
    status = "" if curve.status == "complete" else f" ({curve.status})"
    pairs = zip(curve.steps, curve.values, strict=True)
    return {
        "x": curve.steps,
        "y": curve.values,
        "ids": [curve.trial_id] * len(curve.steps),
        "mode": "lines+markers",
        "name": _rank_name(curve.rank),
        "legendgroup": _rank_name(curve.rank),
        "opacity": 0.95 if curve.status == "complete" else 0.6,
        "line": {"color": colour, "width": 2 if curve.status == "complete" else 1.3},
        "marker": {"color": colour, "size": 4},
        "hovertext": [f"{head}<br>step {step}{status}: {metric.text(value)}" for step, value in pairs],
        "hoverinfo": "text",
    }


def _add_front_line(figure: go.Figure, info: FrontInfo) -> None:
    front = info.front
    if len(front) > 1:
        figure.add_scatter(
            x=[point.cost for point in front],
            y=[point.quality for point in front],
            ids=[point.trial_id for point in front],
            mode="lines+text" if len(front) <= 8 else "lines",
            text=[text(point.label) for point in front],
            textposition="top left",
            name="Pareto front",
            hoverinfo="skip",
            # between two trials nothing was measured: the step claims only what the cheaper one reached
            line={"color": ACCENT, "width": 2, "shape": "hv"},
        )


def _add_baselines(figure: go.Figure, info: FrontInfo) -> None:
    """Lines for the baselines near the trials; one far away would squash them, so its value stands at the edge."""
    low, high = _window([point.quality for point in info.points])
    edges: dict[float, list[str]] = {0.0: [], 1.0: []}
    for name, quality in info.baselines:
        if not info.points or low <= quality <= high:
            label = {"text": text(name), "font": {"size": 12}, "xanchor": "right", "yanchor": "bottom", "x": 1}
            line = {"color": NEUTRAL, "width": 1.2, "dash": "dash"}
            figure.add_shape(type="line", xref="paper", x0=0, x1=1, y0=quality, y1=quality, line=line)
            figure.add_annotation(**label, y=quality, xref="paper", showarrow=False)
        else:
            arrow = "↓" if quality < low else "↑"
            edges[0.0 if quality < low else 1.0].append(f"{arrow} {text(name)} {info.metric.text(quality)}")
    for y, lines in edges.items():
        if lines:
            side = {"yanchor": "bottom" if y == 0 else "top", "xanchor": "right", "align": "right"}
            figure.add_annotation(
                text="<br>".join(lines), x=1, y=y, xref="paper", yref="paper", showarrow=False, **side
            )


def _window(values: Sequence[float]) -> tuple[float, float]:
    """The span of the values, widened by its size on both sides."""
    low, high = min(values, default=0.0), max(values, default=0.0)
    return low - (high - low), high + (high - low)


def _add_points(
    figure: go.Figure,
    points: Sequence[TrialPoint],
    name: str,
    colour: str,
    symbol: str,
    extra: Sequence[str],
    metric: Metric,
    xs: Sequence[float] | None = None,
) -> None:
    """One entry of the legend: its complete trials filled, the others hollow. `xs` are the costs when left out."""
    places = [point.cost for point in points] if xs is None else xs
    rows = list(zip(places, points, extra, strict=True))
    filled = [row for row in rows if row[1].status == "complete"]
    hollow = [row for row in rows if row[1].status != "complete"]
    for part, mark in ((filled, symbol), (hollow, f"{symbol}-open")):
        if part:
            figure.add_scatter(
                x=[x for x, _, _ in part],
                y=[point.quality for _, point, _ in part],
                ids=[point.trial_id for _, point, _ in part],
                mode="markers",
                name=text(name),
                legendgroup=text(name),
                showlegend=part is filled or not filled,
                hovertext=[_hover(point, metric, more) for _, point, more in part],
                hoverinfo="text",
                error_y=_bars([point for _, point, _ in part]),
                marker={
                    "size": 9,
                    "color": colour,
                    "symbol": mark,
                    "opacity": 0.95 if part is filled else 0.75,
                    # an asterisk is drawn by its lines alone
                    "line": {"width": 1.5 if mark == _CUT else 0, "color": colour},
                },
            )


def _bars(points: Sequence[TrialPoint]) -> dict[str, Any]:
    """The intervals as thin bars."""
    if all(point.bounds is None for point in points):
        return {"visible": False}
    ends = [point.bounds or (point.quality, point.quality) for point in points]
    pairs = list(zip(points, ends, strict=True))
    return {
        "type": "data",
        "symmetric": False,
        "array": [high - point.quality for point, (_, high) in pairs],
        "arrayminus": [point.quality - low for point, (low, _) in pairs],
        "thickness": 1,
        "width": 0,
    }


def _make_room(figure: go.Figure, points: Sequence[TrialPoint]) -> None:
    """Of many points smaller ones, without bars: these would hide them."""
    if len(points) > _MOST_BARS:
        figure.update_traces(error_y={"visible": False}, marker={"size": 6}, selector={"mode": "markers"})


def _hover(point: TrialPoint, metric: Metric, extra: str = "") -> str:
    at = "" if point.reached_step is None else f" at step {point.reached_step}"
    status = "" if point.status == "complete" else f" ({point.status}{at})"
    head = f"<b>{text(point.trial_id)}</b>{status}: {metric.text(point.quality)}"
    made = point.made or f"{_rank_name(point.rank)}, alpha {units.number(point.alpha)}, {text(point.target_label)}"
    worth = f"95 % interval {metric.interval_text(point.bounds)}" if point.bounds else ""
    tied = "cannot be told from the best" if point.tied else ""
    return "<br>".join(part for part in (head, worth, tied, made, text(extra)) if part)


def _rank_name(rank: int | None) -> str:
    return "unknown rank" if rank is None else f"rank {rank}"


def _evaluated(metric: Metric) -> str:
    better = "" if metric.mode == "max" else " (lower is better)"
    return f"{metric.title} on evaluation data{better}"

"""The figures of a run. Each is `info = get_x_info(run)`, then `plot_x(info)`.

    plot_front(get_front_info(run))                    plot_learning_curves(get_learning_curves_info(run))
    plot_rank(get_rank_info(run))                      plot_loss_curves(get_loss_curves_info(run))
    plot_learning_rate(get_learning_rate_info(run))

Those over steps are in `curve_figures`. Trials that the scheduler stopped are hollow: their value is not that of a
finished trial. Cuts of trained trials are asterisks in the colour of their target set.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import plotly.graph_objects as go

from reports import units
from reports.curve_figures import plot_learning_curves, plot_loss_curves
from reports.figure_info import (
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
from reports.front_labels import names_with_room
from reports.metric import Metric
from reports.style import ACCENT, NEUTRAL, base_figure, interval_bars, log_ticks, rank_colours, target_marks, text

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


def plot_front(info: FrontInfo) -> go.Figure:
    """Quality against cost (logarithmic), the Pareto front as a line and the baselines as horizontal ones."""
    title, say = _COSTS[info.cost]
    figure = base_figure(title, info.metric.axis_title(), info.metric)
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
    figure = base_figure("rank", info.metric.axis_title(), info.metric)
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
    figure = base_figure("peak learning rate", info.metric.axis_title(), info.metric)
    for rank, colour in rank_colours(point.rank for point in info.points).items():
        points = [point for point in info.points if point.rank == rank]
        rates = [point.learning_rate for point in points]
        extra = [f"rate {units.number(rate)}" for rate in rates]
        _add_points(figure, points, units.rank(rank), colour, "circle", extra, info.metric, rates)
    figure.update_xaxes(type="log", **log_ticks([point.learning_rate for point in info.points], units.number))
    _make_room(figure, info.points)
    return figure


def _add_front_line(figure: go.Figure, info: FrontInfo) -> None:
    front = info.front
    if len(front) > 1:
        named = names_with_room(info)
        figure.add_scatter(
            x=[point.cost for point in front],
            y=[point.quality for point in front],
            ids=[point.trial_id for point in front],
            mode="lines+text",
            text=[text(point.label) if point.trial_id in named else "" for point in front],
            textposition=[named.get(point.trial_id, "top left") for point in front],
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
                error_y=interval_bars([p.quality for _, p, _ in part], [p.bounds for _, p, _ in part]),
                marker={
                    "size": 9,
                    "color": colour,
                    "symbol": mark,
                    "opacity": 0.95 if part is filled else 0.75,
                    # an asterisk is drawn by its lines alone
                    "line": {"width": 1.5 if mark == _CUT else 0, "color": colour},
                },
            )


def _make_room(figure: go.Figure, points: Sequence[TrialPoint]) -> None:
    """Of many points smaller ones, without bars: these would hide them."""
    if len(points) > _MOST_BARS:
        figure.update_traces(error_y={"visible": False}, marker={"size": 6}, selector={"mode": "markers"})


def _hover(point: TrialPoint, metric: Metric, extra: str = "") -> str:
    at = "" if point.reached_step is None else f" at step {point.reached_step}"
    status = "" if point.status == "complete" else f" ({point.status}{at})"
    head = f"<b>{text(point.trial_id)}</b>{status}: {metric.text(point.quality)}"
    made = point.made or f"{units.rank(point.rank)}, alpha {units.number(point.alpha)}, {text(point.target_label)}"
    worth = f"95 % interval {metric.interval_text(point.bounds)}" if point.bounds else ""
    tied = "cannot be told from the best" if point.tied else ""
    return "<br>".join(part for part in (head, worth, tied, made, text(extra)) if part)

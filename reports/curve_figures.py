"""Trials over their steps: the metric on the evaluation data, and the training loss.

What was stopped or failed ends in a cross: its last value is not that of a finished trial.
"""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from reports import units
from reports.crowds import Band
from reports.figure_info import Curve, CurvesInfo
from reports.metric import Metric
from reports.style import NEUTRAL, base_figure, rank_colours, text

_BAND = "rgba(125,133,144,0.25)"


def plot_learning_curves(info: CurvesInfo) -> go.Figure:
    """The metric on the evaluation data over steps, one line a trial, coloured by rank; of many a band."""
    return _plot_curves(info, base_figure("optimizer steps", info.metric.axis_title(), info.metric), info.metric)


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
    head = f"{text(curve.trial_id)}, {units.rank(curve.rank)}, {text(curve.target_label)}"
    status = "" if curve.status == "complete" else f" ({curve.status})"
    pairs = zip(curve.steps, curve.values, strict=True)
    return {
        "x": curve.steps,
        "y": curve.values,
        "ids": [curve.trial_id] * len(curve.steps),
        "mode": "lines+markers",
        "name": units.rank(curve.rank),
        "legendgroup": units.rank(curve.rank),
        "opacity": 0.95 if curve.status == "complete" else 0.6,
        "line": {"color": colour, "width": 2 if curve.status == "complete" else 1.3},
        "marker": {"color": colour, "size": 4},
        "hovertext": [f"{head}<br>step {step}{status}: {metric.text(value)}" for step, value in pairs],
        "hoverinfo": "text",
    }

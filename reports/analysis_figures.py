"""The figures of RUN/analysis/*.json. Each is `info = get_x_info(run)`, then `plot_x(info)` unless that is None.

plot_rank_curves(get_rank_curves_info(run))    plot_heat(get_heat_info(run, "stable_rank"))
plot_spectra(get_spectra_info(run))            plot_norms(get_norms_info(run))
plot_importance(get_importance_info(run))
"""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from reports import units
from reports.analysis_info import HeatInfo, ImportanceInfo, NormsInfo, RankCurve, RankCurvesInfo, SpectraInfo
from reports.metric import Metric
from reports.style import ACCENT, NEUTRAL, base_figure, interval_bars, log_ticks, target_marks, text

_DASHES = {"uniform": "solid", "global-energy": "dash", "layer-energy": "dot"}
_METHODS = {"uniform": "uniform ranks", "global-energy": "largest values", "layer-energy": "share of each layer"}
_SCALE = [[0.0, "rgba(194,96,63,0.07)"], [1.0, ACCENT]]
_QUANTITIES = {
    "stable_rank": "stable rank",
    "effective_rank": "effective rank",
    "energy_share": "share of the update's energy",
    "rank": "recommended rank",
}
_MEASURES = {
    "gradient_squared": "gradient at the start",
    "activation_squared": "inputs",
    "sensitivity": "sensitivity",
    "energy_share": "energy",
    "loss_lost": "loss lost",
    "quality_lost": "quality lost",
}
_LINE = 16  # pixels of a row in a heat map


def plot_rank_curves(info: RankCurvesInfo) -> go.Figure:
    """Quality against trainable parameters (logarithmic) of cut adapters; trained ranks as open circles."""
    figure = base_figure("trainable parameters", info.metric.axis_title(), info.metric)
    marks = target_marks(curve.trial_id for curve in info.curves)
    for curve in info.curves:
        figure.add_scatter(**_rank_curve(curve, *marks[curve.trial_id], info.metric))
    if info.trained:
        figure.add_scatter(
            x=[parameters for _, _, parameters, _ in info.trained],
            y=[quality for _, _, _, quality in info.trained],
            mode="markers",
            name="as trained",
            marker={"symbol": "circle-open", "size": 11, "color": NEUTRAL, "line": {"width": 1.5}},
            hovertext=[
                f"<b>{text(trial)}</b> trained at rank {rank}: {info.metric.text(quality)}"
                for trial, rank, _, quality in info.trained
            ],
            hoverinfo="text",
        )
    sizes = [point.parameters for curve in info.curves for point in curve.points]
    figure.update_xaxes(type="log", **log_ticks(sizes, units.count))
    return figure


def plot_heat(info: HeatInfo) -> go.Figure:
    """A quantity over blocks (rows) and their layers (columns)."""
    figure = base_figure("", "block")
    texts = [[_heat_hover(info, i, j) for j in range(len(info.kinds))] for i in range(len(info.depths))]
    figure.add_heatmap(
        x=[text(kind) for kind in info.kinds],
        y=list(info.depths),
        z=[list(row) for row in info.values],
        text=texts,
        texttemplate="%{z:d}" if info.quantity == "rank" else None,
        hoverinfo="text",
        colorscale=_SCALE,
        xgap=2,
        ygap=2,
        colorbar={"thickness": 10, "outlinewidth": 0},
    )
    figure.update_yaxes(dtick=max(1, len(info.depths) // 16), showgrid=False)
    figure.update_xaxes(showgrid=False)
    figure.update_layout(height=max(400, 120 + _LINE * len(info.depths)))
    return figure


def plot_spectra(info: SpectraInfo) -> go.Figure:
    """Singular values (logarithmic) of each layer's update, coloured by the kind of layer."""
    figure = base_figure("singular value, largest first", "value")
    marks = target_marks(kind for _, kind, _, _ in info.layers)
    named: set[str] = set()
    for name, kind, _, values in info.layers:
        figure.add_scatter(
            x=list(range(1, len(values) + 1)),
            y=values,
            mode="lines+markers",
            name=text(kind),
            legendgroup=text(kind),
            showlegend=kind not in named,
            opacity=0.75,
            line={"color": marks[kind][0], "width": 1.5},
            marker={"color": marks[kind][0], "size": 4, "symbol": marks[kind][1]},
            hovertext=[f"{text(name)}<br>value {i}: {units.number(v)}" for i, v in enumerate(values, start=1)],
            hoverinfo="text",
        )
        named.add(kind)
    figure.update_yaxes(type="log", dtick=1, tickformat=".0e")
    return figure


def plot_norms(info: NormsInfo) -> go.Figure:
    """Norms of A, B and the update over steps."""
    figure = base_figure("optimizer steps", "Frobenius norm over all layers")
    lines = (("A", info.a, NEUTRAL, "dot"), ("B", info.b, "#3d8fc9", "dash"), ("update", info.update, ACCENT, "solid"))
    for name, values, colour, dash in lines:
        figure.add_scatter(
            x=info.steps, y=values, mode="lines+markers", name=name, line={"color": colour, "dash": dash, "width": 2}
        )
    figure.update_xaxes(rangemode="tozero")
    figure.update_yaxes(rangemode="tozero")
    return figure


def plot_importance(info: ImportanceInfo) -> go.Figure:
    """Layers (rows) by measures (columns), each column as a share of its largest value."""
    figure = base_figure("", "")
    largest = [max((abs(row[j]) for row in info.values), default=0.0) or 1.0 for j in range(len(info.measures))]
    figure.add_heatmap(
        x=[_MEASURES[measure] for measure in info.measures],
        y=[text(name) for name in info.layers],
        z=[[max(0.0, value) / top for value, top in zip(row, largest, strict=True)] for row in info.values],
        text=[
            [f"{text(name)}<br>{_MEASURES[m]}: {units.number(v)}" for m, v in zip(info.measures, row, strict=True)]
            for name, row in zip(info.layers, info.values, strict=True)
        ],
        hoverinfo="text",
        colorscale=_SCALE,
        xgap=2,
        ygap=2,
        colorbar={"thickness": 10, "outlinewidth": 0, "tickformat": ".0%"},
    )
    figure.update_yaxes(autorange="reversed", showgrid=False, tickfont={"size": 10})
    figure.update_xaxes(showgrid=False, side="top")
    figure.update_layout(height=max(400, 120 + _LINE * len(info.layers)))
    return figure


def _rank_curve(curve: RankCurve, colour: str, symbol: str, metric: Metric) -> dict[str, Any]:
    uniform = curve.method == "uniform"
    bounds = [point.interval for point in curve.points]
    errors = interval_bars([point.quality for point in curve.points], bounds, width=3)
    return {
        "x": [point.parameters for point in curve.points],
        "y": [point.quality for point in curve.points],
        "mode": "lines+markers",
        "name": f"{text(curve.trial_id)}, {_METHODS[curve.method]}",
        "error_y": errors if uniform and all(bounds) else None,
        "opacity": 0.95 if uniform else 0.7,
        "line": {"color": colour, "width": 2 if uniform else 1.3, "dash": _DASHES[curve.method]},
        "marker": {"color": colour, "size": 8 if uniform else 6, "symbol": symbol},
        "hovertext": [
            f"<b>{text(point.name)}</b> {text(point.label)}: {metric.text(point.quality)}<br>"
            f"{units.count(point.parameters)} parameters"
            for point in curve.points
        ],
        "hoverinfo": "text",
    }


def _heat_hover(info: HeatInfo, row: int, column: int) -> str:
    value = info.values[row][column]
    said = units.share(value) if info.quantity == "energy_share" else units.number(value)
    return f"block {info.depths[row]}, {text(info.kinds[column])}<br>{_QUANTITIES[info.quantity]}: {said}"

"""The figures on what mattered. Each is drawn from plain data of this package.

plot_importance(get_mattered_info(run))    plot_parallel(get_parallel_info(table))
plot_marginal(marginal, metric)            plot_map(get_map_info(table))

Lines over all hyperparameters are plain lines: plotly's own trace for them builds code in the browser, which the page's
security policy forbids.
"""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from reports import units
from reports.importance.landscape import Line, MapInfo, ParallelInfo
from reports.importance.mattered import Dot, Marginal, Mattered
from reports.metric import Metric
from reports.style import ACCENT, NEUTRAL, base_figure, interval_bars, log_ticks, quality_scale, text

_BAND = "rgba(194,96,63,0.16)"
_SHADES = 6
"""Colours of lines: as many as the ramp has."""


def plot_importance(info: Mattered) -> go.Figure:
    """The importances as bars with their intervals, the most important on top."""
    rows = info.rows[::-1]
    figure = base_figure("share of the variance in quality", "")
    figure.add_bar(
        x=[row.share for row in rows],
        y=[text(row.hyperparameter.title) for row in rows],
        orientation="h",
        marker={"color": ACCENT, "opacity": 0.35 if info.weak else 0.8},
        error_x=interval_bars(
            [row.share for row in rows], [row.bounds for row in rows], width=4, thickness=1.5, colour=NEUTRAL
        ),
        hovertext=[
            f"{text(row.hyperparameter.title)}: {units.percent(row.share)}<br>95 % interval {_span(row.bounds)}"
            for row in rows
        ],
        hoverinfo="text",
    )
    low = min([0.0, *(row.bounds[0] for row in rows)])
    figure.update_xaxes(tickformat=".0%", range=[max(low, -0.5) - 0.02, max(1.0, *(r.bounds[1] for r in rows)) + 0.02])
    figure.update_yaxes(showgrid=False)
    figure.update_layout(height=130 + 34 * len(rows), bargap=0.45)
    return figure


def plot_marginal(marginal: Marginal, metric: Metric) -> go.Figure:
    """Trials as dots; the mean prediction with its band, or the medians where nothing was fitted."""
    one = marginal.hyperparameter
    figure = base_figure(one.title, metric.title, metric)
    places = {value: float(i) for i, value in enumerate(marginal.values)}
    turns = _turns(marginal.dots) if places else [0.0] * len(marginal.dots)
    figure.add_scatter(
        x=[places[dot.x] + turn if places else dot.x for dot, turn in zip(marginal.dots, turns, strict=True)],
        y=[dot.value for dot in marginal.dots],
        mode="markers",
        marker={"color": NEUTRAL, "size": 6, "opacity": 0.75 if len(marginal.dots) <= 100 else 0.35},
        hovertext=[f"<b>{text(d.trial_id)}</b><br>{text(_said(d.x))}: {metric.text(d.value)}" for d in marginal.dots],
        hoverinfo="text",
        showlegend=False,
    )
    _add_curve(figure, marginal, [places[point.x] if places else point.x for point in marginal.curve])
    if places:
        said = [text(_said(value)) for value in marginal.values]
        figure.update_xaxes(tickvals=list(places.values()), ticktext=said, range=[-0.5, len(places) - 0.5])
        figure.update_xaxes(showgrid=False)
    elif one.log:
        figure.update_xaxes(type="log", **log_ticks([float(dot.x) for dot in marginal.dots], units.number))
    figure.update_layout(height=300)
    return figure


def plot_parallel(info: ParallelInfo) -> go.Figure:
    """One line a trial over upright axes, coloured by quality, the best drawn last."""
    figure = base_figure("", "")
    shades = [colour for _, colour in quality_scale(Metric("quality"))]
    parts: list[list[Line]] = [[] for _ in range(_SHADES)]
    for i, line in enumerate(info.lines):
        parts[i * _SHADES // len(info.lines)].append(line)
    for colour, lines in zip(shades, parts, strict=True):
        if lines:
            _add_lines(figure, lines, colour, info)
    for i, axis in enumerate(info.axes):
        figure.add_shape(type="line", x0=i, x1=i, y0=-0.06, y1=1.06, line={"color": NEUTRAL, "width": 1}, layer="below")
        for place, said in axis.ticks:
            figure.add_annotation(
                x=i,
                y=place,
                text=text(said),
                showarrow=False,
                xanchor="left",
                xshift=4,
                font={"size": 11},
                bgcolor="rgba(128,136,148,0.2)",  # the page puts its own paper there
                borderpad=1,
            )
    titles = [text(axis.title).replace(" ", "<br>", 1) for axis in info.axes]
    figure.update_xaxes(tickvals=list(range(len(titles))), ticktext=titles, showgrid=False, side="top")
    figure.update_xaxes(range=[-0.15, len(titles) - 0.95], tickangle=0)
    figure.update_yaxes(visible=False, range=[-0.1, 1.1])
    figure.update_layout(margin={"l": 16, "r": 60, "t": 48, "b": 16}, showlegend=False)
    return figure


def plot_map(info: MapInfo) -> go.Figure:
    """Rank (log2) against learning rate (log), coloured by quality: dots, or cells where both come from lists."""
    figure = base_figure("peak learning rate", "rank")
    bar = {"thickness": 10, "outlinewidth": 0, "title": {"text": text(info.metric.title), "side": "right"}}
    if info.metric.is_proportion:
        bar["tickformat"] = ".1~%"
    if info.cells:
        return _cells(figure, info, bar)
    ranks = sorted({rank for _, _, rank, _ in info.points})
    figure.add_scatter(
        x=[rate for _, rate, _, _ in info.points],
        y=[rank for _, _, rank, _ in info.points],
        mode="markers",
        marker={
            "color": [value for *_, value in info.points],
            "colorscale": quality_scale(info.metric),
            "colorbar": bar,
            "size": 13 if len(info.points) <= 100 else 8,
            "opacity": 0.85,
        },
        hovertext=[
            f"<b>{text(name)}</b>: {info.metric.text(value)}<br>rank {rank:g}, rate {units.number(rate)}"
            for name, rate, rank, value in info.points
        ],
        hoverinfo="text",
    )
    figure.update_xaxes(type="log", **log_ticks([rate for _, rate, _, _ in info.points], units.number))
    figure.update_yaxes(type="log", tickvals=ranks, ticktext=[f"{rank:g}" for rank in ranks])
    figure.update_layout(height=320)
    return figure


def _cells(figure: go.Figure, info: MapInfo, bar: dict[str, object]) -> go.Figure:
    rates, ranks = (sorted({cell[i] for cell in info.cells}) for i in (0, 1))
    found = {(rate, rank): (value, size) for rate, rank, value, size in info.cells}
    grid = [[found.get((rate, rank)) for rate in rates] for rank in ranks]
    figure.add_heatmap(
        x=[units.number(rate) for rate in rates],
        y=[f"{rank:g}" for rank in ranks],
        z=[[None if cell is None else cell[0] for cell in row] for row in grid],
        text=[["" if c is None else f"{info.metric.text(c[0])}<br>n = {c[1]}" for c in row] for row in grid],
        texttemplate="%{text}" if len(rates) <= 6 else None,
        hoverinfo="text",
        colorscale=quality_scale(info.metric),
        colorbar=bar,
        xgap=2,
        ygap=2,
    )
    figure.update_xaxes(type="category", showgrid=False)
    figure.update_yaxes(type="category", showgrid=False)
    return figure


def _add_curve(figure: go.Figure, marginal: Marginal, xs: Sequence[float | str]) -> None:
    if not marginal.curve:
        return
    curve = marginal.curve
    middle, low, high = [p.middle for p in curve], [p.low for p in curve], [p.high for p in curve]
    fitted = any(a < b for a, b in zip(low, high, strict=True))
    if marginal.values:
        bars = interval_bars(middle, list(zip(low, high, strict=True)), width=6, thickness=2)
        figure.add_scatter(
            x=xs, y=middle, mode="markers", showlegend=False, hoverinfo="skip",
            marker={"color": ACCENT, "size": 10, "symbol": "diamond"} if fitted else
            {"color": ACCENT, "size": 18, "symbol": "line-ew-open", "line": {"width": 3}},
            error_y=bars if fitted else {"visible": False},
        )  # fmt: skip
        return
    figure.add_scatter(
        x=[*xs, *xs[::-1]], y=[*high, *low[::-1]], fill="toself", fillcolor=_BAND, line={"width": 0},
        hoverinfo="skip", showlegend=False, mode="lines",
    )  # fmt: skip
    figure.add_scatter(
        x=xs, y=middle, mode="lines", line={"color": ACCENT, "width": 2}, hoverinfo="skip", showlegend=False
    )


def _add_lines(figure: go.Figure, lines: Sequence[Line], colour: str, info: ParallelInfo) -> None:
    """One trace for many lines, with gaps between them."""
    xs: list[float | None] = []
    ys: list[float | None] = []
    hovers: list[str] = []
    for line in lines:
        xs += [*range(len(line.heights)), None]
        ys += [*line.heights, None]
        hovers += [f"<b>{text(line.trial_id)}</b>: {info.metric.text(line.value)}"] * len(line.heights) + [""]
    many = len(info.lines) > 60
    figure.add_scatter(
        x=xs, y=ys, mode="lines", line={"color": colour, "width": 1 if many else 1.8}, opacity=0.45 if many else 0.85,
        hovertext=hovers, hoverinfo="text",
    )  # fmt: skip


def _turns(dots: Sequence[Dot]) -> list[float]:
    """A small shift for each dot, the same every time, so that equal values stand side by side."""
    golden = 0.6180339887
    return [0.36 * ((i * golden) % 1 - 0.5) for i in range(len(dots))]


def _said(value: float | str) -> str:
    return value if isinstance(value, str) else units.number(value)


def _span(bounds: tuple[float, float]) -> str:
    return f"{units.percent(bounds[0])} to {units.percent(bounds[1])}"

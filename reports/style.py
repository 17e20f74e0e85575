"""The look that all figures share. Colours stand out from white and from near-black, so one figure serves both."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go

from reports.metric import Metric

ACCENT = "#c2603f"
NEUTRAL = "#7d8590"
_RAMP = ("#2f9c8f", "#3d8fc9", "#6a7fdd", "#9c6bd0", "#c95aa4", "#d4634f")
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "hexagon", "triangle-down")


def rank_colours(ranks: Iterable[int | None]) -> dict[int | None, str]:
    """A colour for each rank, in the order of the ramp from the smallest to the largest; an unknown rank is grey."""
    found = set(ranks)
    known = sorted(rank for rank in found if rank is not None)
    last = max(1, len(known) - 1)
    colours: dict[int | None, str] = {rank: _between(i * (len(_RAMP) - 1) / last) for i, rank in enumerate(known)}
    return colours | ({None: NEUTRAL} if None in found else {})


def target_marks(labels: Iterable[str]) -> dict[str, tuple[str, str]]:
    """A colour and a symbol for each target set, so that colour is not needed to tell them apart."""
    known = sorted(set(labels))
    colours = [_RAMP[(2 * i + i // 3) % len(_RAMP)] for i in range(len(known))]
    return {label: (colours[i], _SYMBOLS[i % len(_SYMBOLS)]) for i, label in enumerate(known)}


def quality_scale(metric: Metric) -> list[tuple[float, str]]:
    """A colour scale for plotly, low values first, on which the better end has the same colour for every metric."""
    colours = _RAMP if metric.mode == "max" else _RAMP[::-1]
    return [(i / (len(colours) - 1), colour) for i, colour in enumerate(colours)]


def text(value: object) -> str:
    """Free text for plotly, which would read `<b>` in it as markup."""
    return escape(str(value), quote=False)


def log_ticks(values: Sequence[float], say: Callable[[float], str]) -> dict[str, list[Any]]:
    """Ticks of a logarithmic axis in words: 1, 2 and 5 of each decade, or the decades alone when there are many."""
    if not values:
        return {}
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    steps = (1, 2, 5) if high - low <= 2 else (1,)
    ticks = [step * 10.0**power for power in range(low, high + 1) for step in steps]
    return {"tickvals": ticks, "ticktext": [say(tick) for tick in ticks]}


def base_figure(x_title: str, y_title: str, metric: Metric | None = None) -> go.Figure:
    """An empty figure in the shared look; with a metric the y axis is written in its unit."""
    figure = go.Figure()
    axis = {"gridcolor": "rgba(128,136,148,0.22)", "zeroline": False, "automargin": True, "ticks": ""}
    figure.update_layout(
        template="none",
        height=400,
        margin={"l": 56, "r": 20, "t": 16, "b": 56},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 13, "color": NEUTRAL},
        hovermode="closest",
        hoverlabel={"align": "left"},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0, "itemsizing": "constant"},
        xaxis=axis | {"title": {"text": text(x_title)}},
        yaxis=axis | {"title": {"text": text(y_title)}},
    )
    if metric is not None and metric.is_proportion:
        figure.update_yaxes(tickformat=".1~%")
    return figure


def interval_bars(
    values: Sequence[float],
    bounds: Sequence[tuple[float, float] | None],
    width: int = 0,
    thickness: float = 1.0,
    colour: str | None = None,
) -> dict[str, Any]:
    """The intervals around the values as plotly's error bars; a value without an interval gets none.

    Args:
        values: where the bars are centred.
        bounds: their ends; where a value lies outside of its interval, the bar has no length on that side.
        width: of the caps at the ends, in pixels; `thickness` of the lines.
        colour: None for that of the points.
    """
    if all(one is None for one in bounds):
        return {"visible": False}
    ends = [(value, *(one or (value, value))) for value, one in zip(values, bounds, strict=True)]
    return {
        "type": "data",
        "symmetric": False,
        "array": [max(0.0, high - value) for value, _, high in ends],
        "arrayminus": [max(0.0, value - low) for value, low, _ in ends],
        "thickness": thickness,
        "width": width,
        "color": colour,
    }


def _between(position: float) -> str:
    low = min(int(position), len(_RAMP) - 2)
    parts = [_channels(_RAMP[low]), _channels(_RAMP[low + 1])]
    mixed = (round(a + (b - a) * (position - low)) for a, b in zip(*parts, strict=True))
    return "#" + "".join(f"{channel:02x}" for channel in mixed)


def _channels(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))

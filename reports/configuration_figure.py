"""The seeds of each configuration as dots: `plot_configurations(configuration_summaries(results, part), ...)`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import plotly.graph_objects as go

from reports.configurations import ConfigurationSummary
from reports.metric import Metric
from reports.style import ACCENT, NEUTRAL, base_figure, interval_bars, text

_MEAN_AT = 0.14
"""How far beside its seeds a mean stands."""


def plot_configurations(found: Sequence[ConfigurationSummary], metric: Metric, data: str) -> go.Figure:
    """One column a configuration: its seeds as dots, beside them the mean with its interval.

    Args:
        found: the configurations, in the order of the columns.
        metric: what they are measured by.
        data: on which, e.g. `test data`.
    """
    figure = base_figure("", metric.axis_title(data), metric)
    shown = [one for one in found if one.seeds]
    dots = [(place, name, value) for place, one in enumerate(shown) for name, value in one.values]
    _add(figure, "seeds", "circle", NEUTRAL, dots, metric)
    first = [(p, one.trial_id, one.selected) for p, one in enumerate(shown) if not math.isnan(one.selected)]
    if first:
        _add(figure, "the seed that was selected", "circle-open", NEUTRAL, first, metric)
    figure.add_scatter(
        x=[place + _MEAN_AT for place in range(len(shown))],
        y=[one.mean for one in shown],
        mode="markers",
        name="mean, 95 % interval",
        marker={"symbol": "diamond", "size": 10, "color": ACCENT},
        error_y=interval_bars(
            [one.mean for one in shown], [one.bounds for one in shown], width=4, thickness=1.5, colour=ACCENT
        ),
        hovertext=[_hover(one, metric) for one in shown],
        hoverinfo="text",
    )
    ticks = [text(one.trial_id) for one in shown]
    figure.update_xaxes(tickvals=list(range(len(shown))), ticktext=ticks, range=[-0.5, len(shown) - 0.5])
    return figure


def _add(
    figure: go.Figure, name: str, symbol: str, colour: str, dots: Sequence[tuple[int, str, float]], metric: Metric
) -> None:
    figure.add_scatter(
        x=[place for place, _, _ in dots],
        y=[value for _, _, value in dots],
        mode="markers",
        name=name,
        marker={"symbol": symbol, "size": 9, "color": colour, "line": {"width": 1.5, "color": colour}},
        hovertext=[f"<b>{text(trial)}</b>: {metric.text(value)}" for _, trial, value in dots],
        hoverinfo="text",
    )


def _hover(one: ConfigurationSummary, metric: Metric) -> str:
    worth = f"<br>95 % interval {metric.interval_text(one.bounds)}" if one.bounds else ""
    head = f"<b>{text(one.trial_id)}</b>: mean {metric.text(one.mean)} of {one.seeds}"
    return f"{head}{worth}<br>{text(one.configuration)}"

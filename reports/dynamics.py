"""How training went inside the leading trials: norms of A, B and the update, and the learning rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from lora_sweep.store import RunFolder
from reports import units
from reports.results import Results, read_results, sort_by_quality
from reports.searched import searched_trials
from reports.style import base_figure, rank_colours, text

MOST_TRIALS = 5
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
_STATUSES = ("complete", "stopped")


@dataclass(frozen=True)
class TrialDynamics:
    """One trial at its evaluations; what is not known is NaN.

    Attributes:
        steps: optimizer steps of each evaluation.
        a, b, update: Frobenius norms over all layers of A, of B and of scaling * B A.
        rate: the learning rate of the last step before each evaluation.
    """

    trial_id: str
    rank: float
    steps: tuple[int, ...]
    a: tuple[float, ...]
    b: tuple[float, ...]
    update: tuple[float, ...]
    rate: tuple[float, ...]


def get_dynamics_info(run: RunFolder | Results) -> tuple[TrialDynamics, ...]:
    """The `MOST_TRIALS` leading complete trials, or stopped ones where none is complete, best first."""
    results = read_results(run)
    trials = searched_trials(results)
    complete, stopped = (sort_by_quality(trials[trials["status"] == one], results.metric) for one in _STATUSES)
    leading = (complete if len(complete) else stopped).head(MOST_TRIALS)
    points = results.points[results.points["trial_id"].isin(leading["trial_id"])]
    found = []
    for name, rank in zip(leading["trial_id"], leading["rank"], strict=True):
        own = points[points["trial_id"] == name]
        columns = (own[key].astype(float) for key in ("norm_a", "norm_b", "norm_update", "learning_rate"))
        a, b, update, rate = (tuple(float(value) for value in column) for column in columns)
        found.append(TrialDynamics(str(name), float(rank), tuple(int(s) for s in own["step"]), a, b, update, rate))
    return tuple(found)


def plot_norms(info: Sequence[TrialDynamics], part: str) -> go.Figure | None:
    """One line a trial of the norm of `a`, `b` or `update` over steps; None where none was noted."""
    figure = _lines(info, part, "Frobenius norm over all layers")
    if figure is not None:
        figure.update_yaxes(rangemode="tozero")
    return figure


def plot_rate(info: Sequence[TrialDynamics]) -> go.Figure | None:
    """The learning rate at each evaluation; None where it was not noted."""
    figure = _lines(info, "rate", "learning rate")
    if figure is not None:
        figure.update_yaxes(rangemode="tozero", exponentformat="e")
    return figure


def _lines(info: Sequence[TrialDynamics], part: str, title: str) -> go.Figure | None:
    figure = base_figure("optimizer steps", title)
    colours = rank_colours(range(len(info)))
    for i, one in enumerate(info):
        pairs = [(s, v) for s, v in zip(one.steps, getattr(one, part), strict=True) if math.isfinite(v)]
        if not pairs:
            continue
        figure.add_scatter(
            x=[step for step, _ in pairs],
            y=[value for _, value in pairs],
            mode="lines+markers",
            name=text(one.trial_id) + ("" if math.isnan(one.rank) else f", rank {one.rank:g}"),
            line={"color": colours[i], "dash": _DASHES[i], "width": 2},
            hovertext=[f"<b>{text(one.trial_id)}</b><br>step {s}: {units.number(v)}" for s, v in pairs],
            hoverinfo="text",
        )
    figure.update_xaxes(rangemode="tozero")
    figure.update_layout(height=340)
    return figure if figure.data else None

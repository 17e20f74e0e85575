"""The page's part on what was measured after training: figures, and the table of latencies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from reports import analysis_figures, units
from reports.analysis_info import (
    analysis_of,
    get_heat_info,
    get_importance_info,
    get_norms_info,
    get_rank_curves_info,
    get_spectra_info,
)
from reports.pick_cost import milliseconds
from reports.results import Results

FIGURES = frozenset({"rank-curves", "stable-rank", "energy", "spectra", "norms", "importance"})
"""The keys of this section's figures."""


@dataclass(frozen=True)
class LatencyTable:
    """Trial, batch, what runs, median, quartiles, extremes and throughput; the note says on what and how often."""

    rows: tuple[tuple[str, ...], ...]
    note: str


def analysis_figures_of(results: Results) -> Iterator[tuple[str, str, str, go.Figure]]:
    """Key, title, caption and figure of all that was measured."""
    if (curves := get_rank_curves_info(results)) is not None:
        caption = (
            "Each line is one trial whose update was cut by its singular values and evaluated without training, with "
            "95 % intervals of the single adapters; open circles are trials as they were trained. Cuts are chosen on "
            "the same examples as trials are."
        )
        yield "rank-curves", "Rank curves of trained trials", caption, analysis_figures.plot_rank_curves(curves)
    yield from _layers(results)
    if (norms := get_norms_info(results)) is not None:
        caption = f"Trial {norms.trial_id} at its evaluations. B starts at zero."
        yield "norms", "Norms of A, B and the update over steps", caption, analysis_figures.plot_norms(norms)
    if (importance := get_importance_info(results)) is not None:
        more = f" {importance.left_out} layers with less loss lost are not shown." if importance.left_out else ""
        caption = (
            f"Trial {importance.trial_id}, on a part of the training data: what the loss asks of a layer, what an "
            "example's loss owes to its update to first order, the update's energy, and what is lost without the "
            f"update. Colours are shares of each column's largest value; they need not agree.{more}"
        )
        yield "importance", "Which layers matter", caption, analysis_figures.plot_importance(importance)


def latency_table(results: Results) -> LatencyTable:
    """Every latency that was measured."""
    content = analysis_of(results, "latency")
    if content is None:
        return LatencyTable((), "")
    rows = tuple(_latency_row(str(trial["trial_id"]), row) for trial in content["trials"] for row in trial["rows"])
    note = (
        f"One forward pass on {content.get('device')}, {content.get('dtype')}: median, quartiles and extremes of "
        f"{content.get('passes')} passes after warming up. Unmerged runs through lora-sweep's own layers."
    )
    return LatencyTable(rows, note)


def _latency_row(trial_id: str, row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        trial_id,
        f"{row['batch_size']} x {row['length']}",
        str(row["variant"]),
        milliseconds(row["median_seconds"]),
        f"{milliseconds(row['quartile_1_seconds'])} to {milliseconds(row['quartile_3_seconds'])}",
        f"{milliseconds(row['min_seconds'])} to {milliseconds(row['max_seconds'])}",
        units.count(row["examples_per_second"]),
    )


def _layers(results: Results) -> Iterator[tuple[str, str, str, go.Figure]]:
    if (stable := get_heat_info(results, "stable_rank")) is not None:
        caption = f"Trial {stable.trial_id}: |update|² over its largest singular value squared."
        yield "stable-rank", "Stable rank of each layer's update", caption, analysis_figures.plot_heat(stable)
    if (energy := get_heat_info(results, "energy_share")) is not None:
        caption = f"Trial {energy.trial_id}: where the update is large, |update of the layer|² over the sum."
        yield "energy", "Share of the update's energy", caption, analysis_figures.plot_heat(energy)
    if (spectra := get_spectra_info(results)) is not None:
        more = f" {spectra.left_out} layers with smaller updates are not shown." if spectra.left_out else ""
        caption = f"Trial {spectra.trial_id}, one line a layer. A steep fall means that fewer ranks would do.{more}"
        yield "spectra", "Singular values of each layer's update", caption, analysis_figures.plot_spectra(spectra)

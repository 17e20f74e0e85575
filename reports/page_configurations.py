"""The page's part on seeds: how good the finalists' configurations are, apart from the luck of a seed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import plotly.graph_objects as go

from reports import units
from reports.configuration_figure import plot_configurations
from reports.configurations import ConfigurationSummary, Part, configuration_summaries
from reports.results import Results

_MOST_COLUMNS = 12
"""Configurations in the figure: of more, the ids below it would not be readable."""


@dataclass(frozen=True)
class SeedSection:
    """The table and the words of the section.

    Attributes:
        headings: of the columns.
        rows: their texts; the first is the trial.
        note: what the figures mean.
    """

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str


def seed_section(results: Results) -> SeedSection | None:
    """The section; None where no configuration has several seeds."""
    part, found = _shown(results)
    if not found:
        return None
    again = bool(len(results.repeats))
    title = results.metric.title
    headings = [
        "Trial", "Configuration", "New seeds" if again else "Seeds", f"Mean {title}", "95 % interval", "Spread",
        *(["Selected seed"] if again else []), "Behind the best", "95 % interval",
    ]  # fmt: skip
    return SeedSection(tuple(headings), tuple(_row(one, results, again) for one in found), _note(results, part, found))


def seed_figures(results: Results) -> Iterator[tuple[str, str, str, go.Figure]]:
    """Key, title, caption and figure of the seeds, where there are some."""
    part, found = _shown(results)
    if found:
        data = _data(part)
        few = found[:_MOST_COLUMNS]
        more = f" The {len(found) - len(few)} with lower means are not shown." if len(found) > len(few) else ""
        caption = f"Each dot is one adapter on the {data}. Intervals are over seeds and examples.{more}"
        yield "seeds", f"Seeds of each configuration on {data}", caption, plot_configurations(few, results.metric, data)


def _shown(results: Results) -> tuple[Part, tuple[ConfigurationSummary, ...]]:
    """The configurations on the test data, or on the evaluation data where nothing was tested yet."""
    tested = configuration_summaries(results, "test")
    if any(one.seeds > 0 for one in tested):
        return "test", tested
    return "eval", configuration_summaries(results, "eval")


def _row(one: ConfigurationSummary, results: Results, again: bool) -> tuple[str, ...]:
    metric = results.metric
    failed = f" (+ {one.failed} failed)" if one.failed else ""
    spread = units.MISSING if math.isnan(one.spread) else metric.difference_text(one.spread)
    is_best = one.gain == 0
    behind = units.MISSING if math.isnan(one.gain) else metric.difference_text(one.gain)
    distance = metric.gain_text(one.gain_bounds) if one.gain_bounds else units.MISSING
    return (
        one.trial_id,
        one.configuration,
        f"{one.seeds}{failed}",
        metric.text(one.mean),
        metric.interval_text(one.bounds) if one.bounds else units.MISSING,
        spread,
        *([metric.text(one.selected)] if again else []),
        "best mean" if is_best else behind,
        f"{distance}, ruled out" if one.ruled_out else distance,
    )


def _note(results: Results, part: Part, found: tuple[ConfigurationSummary, ...]) -> str:
    if len(results.repeats):
        means = (
            "Each finalist's configuration was trained again with new seeds. Means are over these alone: the seed of "
            "the finalist itself was selected by its figure, which flatters the configuration."
        )
    else:
        means = (
            "Configurations that the search trained with several seeds, without those of which a seed was stopped. "
            "The best of many means flatters too."
        )
    compared = sum(one.gain_bounds is not None for one in found)
    at_once = f", for all {compared} comparisons with the best at once" if compared > 1 else ""
    return (
        f"On the {_data(part)}. {means} Intervals are for other seeds and other examples; those of the distance to the "
        f"best are paired over examples{at_once}. Few seeds give wide intervals, and may miss a collapse that is rare."
    )


def _data(part: Part) -> str:
    return "test data" if part == "test" else "evaluation data"

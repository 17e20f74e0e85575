"""The page's part on recommended ranks: where they stand, and what their validation says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import plotly.graph_objects as go

from reports import analysis_figures, units
from reports.analysis_info import HeatInfo
from reports.recommendation import read_recommendation, recommendation_sentences
from reports.results import Results
from reports.validation import ArmResult, Validation


@dataclass(frozen=True)
class RecommendationSection:
    """Sentences, and the arms as a table: its headings and rows."""

    sentences: tuple[str, ...]
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    verdict: str


def recommendation_section(results: Results) -> RecommendationSection | None:
    """The section; None without a recommendation."""
    found = read_recommendation(results)
    if found is None:
        return None
    content, validation = found
    sentences = tuple(recommendation_sentences(content, validation))
    if validation is None:
        return RecommendationSection(sentences, (), (), "")
    headings = ("Arm", "LoRA parameters", "while training", "rate", "test", "by seed", "tokens", "device time")
    rows = tuple(_row(arm, validation) for arm in validation.arms)
    return RecommendationSection(sentences, headings, rows, validation.verdict)


def recommendation_figures_of(results: Results) -> Iterator[tuple[str, str, str, go.Figure]]:
    """Key, title, caption and figure, where layers stand in blocks."""
    info = get_ranks_info(results)
    if info is not None:
        caption = "Recommended rank of each adapted layer; 0 leaves it out."
        yield "recommended-ranks", "Recommended ranks", caption, analysis_figures.plot_heat(info)


def get_ranks_info(results: Results) -> HeatInfo | None:
    """The recommended ranks by block and kind of layer."""
    found = read_recommendation(results)
    layers = [row for row in found[0]["layers"] if row["depth"] is not None] if found else []
    if found is None or not layers:
        return None
    kinds = tuple(dict.fromkeys(row["kind"] for row in layers))
    depths = tuple(sorted({row["depth"] for row in layers}))
    ranks = {(row["depth"], row["kind"]): float(row["rank"]) for row in layers}
    values = tuple(tuple(ranks.get((depth, kind)) for kind in kinds) for depth in depths)
    return HeatInfo(found[0]["trial_id"], "rank", kinds, depths, values)


def _row(arm: ArmResult, validation: Validation) -> tuple[str, ...]:
    metric = validation.metric
    return (
        arm.name,
        f"{arm.parameters:,}",
        f"{arm.trained_parameters:,}",
        units.number(arm.learning_rate),
        metric.text(arm.mean),
        ", ".join(metric.text(value) for value in arm.values.values()),
        units.count(arm.tokens),
        units.duration(arm.device_seconds),
    )

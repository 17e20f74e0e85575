"""The page's part on what mattered: sentences, figures and small tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from reports import units
from reports.importance import SpotTable, get_map_info, get_mattered_info, get_parallel_info, get_sweet_spots
from reports.importance import figures as drawn
from reports.importance.mattered import MOST_DOTS, Mattered
from reports.page_figures import Drawn
from reports.results import Results


@dataclass(frozen=True)
class SpotPart:
    """One table of the sweet spot as texts."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str


@dataclass(frozen=True)
class MatteredPart:
    """What the template shows.

    Attributes:
        sentences: what was compared, and how far the model can be trusted.
        marginals: keys of the figures over single hyperparameters.
        spots: the tables of the sweet spot.
        figures: all figures.
    """

    sentences: tuple[str, ...]
    marginals: tuple[str, ...]
    spots: tuple[SpotPart, ...]
    figures: tuple[Drawn, ...]


def mattered_part(results: Results) -> MatteredPart | None:
    """The section; None when nothing varied between trials."""
    info = get_mattered_info(results)
    if not info.marginals or not len(info.table.trials):
        return None
    figures = tuple(_figures(info))
    spots = tuple(_spot(table, results) for table in get_sweet_spots(results))
    marginals = tuple(key for key, *_ in figures if key.startswith("over-"))
    return MatteredPart(tuple(_sentences(info)), marginals, spots, figures)


def _sentences(info: Mattered) -> Iterator[str]:
    yield info.table.why
    if info.table.left_out:
        yield f"{units.plural(info.table.left_out, 'trial')} without such a figure or without LoRA layers left out."
    if info.missing:
        yield f"{info.missing} The figures show the trials as they are."
    else:
        yield from _trust(info)
    for first, second, size in info.entangled[:4]:
        yield (
            f"{first.capitalize()} and {second} went together in these trials (correlation {size:.2f}), so that what "
            "is said of one may be due to the other."
        )


def _trust(info: Mattered) -> Iterator[str]:
    low, high = info.r_squared_bounds
    total = len(info.table.trials)
    sample = f", drawn at random from {total:,}" if info.fitted < total else ""
    yield (
        f"A forest was fitted to {units.plural(info.fitted, 'trial')}{sample}. For trials that it had not seen it "
        f"explains {_r(info.r_squared)} of the variance in {info.table.metric.title} (R²; 95 % interval {_r(low)} to "
        f"{_r(high)})."
    )
    if info.r_squared <= 0:
        yield (
            "That is no better than the mean of the trials: these data do not say which hyperparameter mattered, and "
            "the bars below mean nothing."
        )
    elif info.weak:
        yield "That is little, or not surely more than nothing: take the bars below as hints at most."
    clear = [row for row in info.rows if row.bounds[0] > 0]
    if not info.weak and clear:
        names = ", ".join(f"{row.hyperparameter.title} ({units.percent(row.share)})" for row in clear)
        others = " The others cannot be told from nothing." if len(clear) < len(info.rows) else ""
        yield f"More than chance: {names}.{others}"


def _r(value: float) -> str:
    return f"{value:.2f}" if value > -1 else "less than -1"


def _figures(info: Mattered) -> Iterator[Drawn]:
    metric, when = info.table.metric, info.table.when
    if info.rows:
        caption = (
            "The share of the variance in quality that goes with each, alone or together with others, with 95 % "
            "intervals over trials. Shares may add up to more than the whole."
        )
        yield "mattered", "Importance of the hyperparameters", caption, drawn.plot_importance(info)
    fitted = "the mean prediction with its 95 % band" if info.rows else "the median"
    many = f" {MOST_DOTS:,} trials drawn at random." if len(info.table.trials) > MOST_DOTS else ""
    for one in info.marginals:
        name = one.hyperparameter
        line = f" Orange: {fitted}." if one.curve else ""
        caption = f"Dots: trials {when}.{line}{many}"
        yield f"over-{name.name}", f"{metric.title} over {name.title}", caption, drawn.plot_marginal(one, metric)
    if (rates := get_map_info(info.table)) is not None:
        what = "Median quality of each cell" if rates.cells else "One dot a trial, coloured by quality"
        yield "rank-rate", "Rank and learning rate", f"{what}, {when}.{many}", drawn.plot_map(rates)
    if (lines := get_parallel_info(info.table)) is not None:
        some = f" {len(lines.lines)} of {lines.total:,}: the best, and others at random." * (
            len(lines.lines) < lines.total
        )
        caption = f"One line a trial, {when}; orange are the best sixth, green the worst. The best end of the last "
        caption += f"axis is on top.{some}"
        yield "parallel", "All hyperparameters at once", caption, drawn.plot_parallel(lines)


def _spot(table: SpotTable, results: Results) -> SpotPart:
    metric = results.metric
    with_ties = any(row.tied is not None for row in table.rows)
    headings = (table.title, "Complete", "Best", "95 %", "Median", *(["In the tie set"] * with_ties), "Parameters from")
    rows = tuple(
        (
            row.value,
            f"{row.trials} of {row.started}",
            metric.text(row.best),
            metric.interval_text(row.bounds) if row.bounds else units.MISSING,
            metric.text(row.median),
            *([str(row.tied)] * with_ties),
            units.count(row.parameters),
        )
        for row in table.rows
    )
    more = f" {table.left_out} more values are not shown." if table.left_out else ""
    return SpotPart(table.title, headings, rows, f"{table.sentence}{more}".strip())

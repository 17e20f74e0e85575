"""The report: one HTML file that opens offline and reads from top to bottom as an answer, and the tables beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lora_sweep.errors import RunFolderError
from lora_sweep.store import RunFolder
from reports import (
    figures,
    page_analysis,
    page_configurations,
    page_dynamics,
    page_mattered,
    page_parts,
    page_recommendation,
    savings,
)
from reports.advice import advise
from reports.analysis_export import write_analysis_tables
from reports.doubts import doubts
from reports.export import write_tables
from reports.figure_info import get_front_info
from reports.pick import Pick, pick
from reports.recommendation import write_recommendation_table
from reports.rendering import PageFigure, page_figure, render, write_page
from reports.results import Results, read_results
from reports.table import table_rows


def write_report(run: RunFolder, output: Path | None = None) -> Path:
    """Write the report and RUN/tables/*.csv.

    Args:
        run: the run, finished or not.
        output: where the page goes; RUN/report.html by default.

    Returns:
        The page's path.
    """
    results = read_results(run)
    write_tables(results)
    write_analysis_tables(results)
    write_recommendation_table(results)
    return write_page(render_page(results), output or results.path / "report.html")


def render_page(run: RunFolder | Results) -> str:
    """The page's HTML, complete in itself."""
    results = read_results(run)
    return render("page.html.j2", _context(results))


def _context(results: Results) -> dict[str, Any]:
    chosen, reason = _pick(results)
    rows = table_rows(results)
    columns = page_parts.table_columns(rows, results)
    latency = page_analysis.latency_table(results)
    mattered = page_mattered.mattered_part(results)
    measured = [page_figure(*one) for one in page_analysis.analysis_figures_of(results)]
    more = [
        page_figure(*one)
        for one in (
            *page_configurations.seed_figures(results),
            *(mattered.figures if mattered else ()),
            *page_dynamics.dynamics_figures_of(results),
            *page_recommendation.recommendation_figures_of(results),
        )
    ]
    return {
        "results": results,
        "name": str(results.info.get("name") or results.path.name),
        "status": str(results.info.get("status") or ""),
        "lead": _lead(results),
        "pick": chosen,
        # an imported run has no adapters
        "exportable": chosen is not None and not results.section("imported"),
        "no_pick": reason,
        "answer": _answer(results, chosen) if chosen else {},
        "doubts": doubts(results, chosen),
        "columns": columns,
        "constants": [(key.replace("_", " "), value) for key, value in page_parts.constants(rows)],
        "rows": [(row, page_parts.table_cells(row, columns)) for row in rows],
        "failed": page_parts.failed_rows(results),
        "figures": {figure.key: figure for figure in (*_figures(results), *measured, *more)},
        "mattered": mattered,
        "advice": advise(results),
        "cost_details": savings.savings_texts(results),
        "analysed": bool(measured or latency.rows),
        "latency": latency,
        "over_seeds": page_configurations.seed_section(results),
        "recommendation": page_recommendation.recommendation_section(results),
        "cost": page_parts.cost_facts(results, chosen),
        "facts": page_parts.run_facts(results),
        "data": page_parts.data_facts(results),
        "devices": page_parts.device_facts(results),
    }


def _pick(results: Results) -> tuple[Pick | None, str]:
    try:
        return pick(results), ""
    except RunFolderError:
        failed = len(results.with_status("failed"))
        if not len(results.trials):
            return None, "No trial has ended yet, so there is nothing to pick."
        if failed == len(results.trials):
            return None, "Every trial failed, so there is nothing to pick; the reasons are listed below."
        return None, f"No trial has an evaluation of {results.metric.name}, so there is nothing to pick."


def _answer(results: Results, chosen: Pick) -> dict[str, Any]:
    part, bars = page_parts.comparison_bars(results, chosen)
    return {
        "facts": page_parts.pick_facts(chosen),
        "part": part,
        "bars": bars,
        "others": page_parts.other_test_metrics(results, chosen),
        "command": page_parts.pick_command(results, chosen),
    }


def _lead(results: Results) -> str:
    model, task = results.section("model").get("name"), results.section("task").get("type")
    parts = [str(model) if model else "", str(task) if task else ""]
    count = len(results.trials)
    parts.append(f"{count} trial{'' if count == 1 else 's'}")
    return " · ".join(part for part in parts if part)


def _figures(results: Results) -> Iterator[PageFigure]:
    """The figures that have something to show."""
    title = results.metric.title
    front = get_front_info(results)
    if front.points:
        cuts = any(point.is_cut for point in front.points)
        caption = "Nothing measured on the line is beaten on both quality and size. Hollow: stopped early."
        caption += " Asterisks: trained trials cut to lower ranks, no further training." * cuts
        yield page_figure("front", f"{title} against trainable parameters", caption, figures.plot_front(front))
    rank = figures.get_rank_info(results)
    if rank.points:
        caption = "The dotted line joins the medians. Other settings differ between these trials too."
        yield page_figure("rank", f"{title} over rank", caption, figures.plot_rank(rank))
    rate = figures.get_learning_rate_info(results)
    if rate.points:
        caption = "A best rate at the edge of the plot asks for a wider space."
        yield page_figure("rate", f"{title} against learning rate", caption, figures.plot_learning_rate(rate))
    yield from _curve_figures(results, title)
    cost = get_front_info(results, "device_seconds")
    if cost.points:
        caption = "Device time is the engine's time shared among its trials by FLOPs, not the wall time of a pack."
        yield page_figure("cost", f"{title} against device time", caption, figures.plot_front(cost))


def _curve_figures(results: Results, title: str) -> Iterator[PageFigure]:
    curves = figures.get_learning_curves_info(results)
    if curves.curves:
        caption = "One line a trial. A cross ends what was stopped or failed."
        yield page_figure("curves", f"{title} over steps", caption, figures.plot_learning_curves(curves))
    losses = figures.get_loss_curves_info(results)
    if losses.curves:
        caption = "Mean training loss between evaluations."
        yield page_figure("losses", "Training loss over steps", caption, figures.plot_loss_curves(losses))

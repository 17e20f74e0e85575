"""The report: one HTML file that opens offline and reads from top to bottom as an answer, and the tables beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from lora_sweep import __version__
from lora_sweep.errors import RunFolderError
from lora_sweep.store import RunFolder
from reports import figures, page_analysis, page_parts, page_recommendation
from reports.analysis_export import write_analysis_tables
from reports.doubts import doubts
from reports.export import write_tables
from reports.figure_info import get_front_info
from reports.pick import Pick, pick
from reports.recommendation import write_recommendation_table
from reports.results import Results, read_results
from reports.table import table_rows


@dataclass(frozen=True)
class PageFigure:
    """One figure on the page: `json` is safe inside a script element."""

    key: str
    label: str
    caption: str
    json: Markup


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
    target = output or results.path / "report.html"
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    part.write_text(render_page(results), encoding="utf-8")
    part.replace(target)
    return target


def render_page(run: RunFolder | Results) -> str:
    """The page's HTML, complete in itself."""
    results = read_results(run)
    templates = PackageLoader("reports")
    environment = Environment(
        loader=templates,
        # named .j2, the template would not be taken for HTML
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    # not rendered: the braces of CSS and JavaScript are their own
    assets = {name: Markup(templates.get_source(environment, f"page.{name}")[0]) for name in ("css", "js")}
    return environment.get_template("page.html.j2").render(_context(results), assets=assets)


def _context(results: Results) -> dict[str, Any]:
    chosen, reason = _pick(results)
    rows = table_rows(results)
    columns = page_parts.table_columns(rows, results)
    latency = page_analysis.latency_table(results)
    measured = [_figure(*one) for one in page_analysis.analysis_figures_of(results)]
    ranks = [_figure(*one) for one in page_recommendation.recommendation_figures_of(results)]
    return {
        "results": results,
        "name": str(results.info.get("name") or results.path.name),
        "status": str(results.info.get("status") or ""),
        "lead": _lead(results),
        "pick": chosen,
        "no_pick": reason,
        "answer": _answer(results, chosen) if chosen else {},
        "doubts": doubts(results, chosen),
        "columns": columns,
        "constants": [(key.replace("_", " "), value) for key, value in page_parts.constants(rows)],
        "rows": [(row, page_parts.table_cells(row, columns)) for row in rows],
        "failed": results.with_status("failed").to_dict("records"),
        "figures": {figure.key: figure for figure in (*_figures(results), *measured, *ranks)},
        "analysed": bool(measured or latency.rows),
        "latency": latency,
        "recommendation": page_recommendation.recommendation_section(results),
        "cost": page_parts.cost_facts(results, chosen),
        "facts": page_parts.run_facts(results),
        "data": page_parts.data_facts(results),
        "devices": page_parts.device_facts(results),
        "version": __version__,
        "plotly": Markup(get_plotlyjs()),
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
        caption = "Nothing measured on the line is beaten on both quality and size. Hollow: stopped early."
        yield _figure("front", f"{title} against trainable parameters", caption, figures.plot_front(front))
    rank = figures.get_rank_info(results)
    if rank.points:
        caption = "The dotted line joins the medians. Other settings differ between these trials too."
        yield _figure("rank", f"{title} over rank", caption, figures.plot_rank(rank))
    rate = figures.get_learning_rate_info(results)
    if rate.points:
        caption = "A best rate at the edge of the plot asks for a wider space."
        yield _figure("rate", f"{title} against learning rate", caption, figures.plot_learning_rate(rate))
    yield from _curve_figures(results, title)
    cost = get_front_info(results, "device_seconds")
    if cost.points:
        caption = "Device time is the engine's time shared among its trials by FLOPs, not the wall time of a pack."
        yield _figure("cost", f"{title} against device time", caption, figures.plot_front(cost))


def _curve_figures(results: Results, title: str) -> Iterator[PageFigure]:
    curves = figures.get_learning_curves_info(results)
    if curves.curves:
        caption = "One line a trial. A cross ends what was stopped or failed."
        yield _figure("curves", f"{title} over steps", caption, figures.plot_learning_curves(curves))
    losses = figures.get_loss_curves_info(results)
    if losses.curves:
        caption = "Mean training loss between evaluations."
        yield _figure("losses", "Training loss over steps", caption, figures.plot_loss_curves(losses))


def _figure(key: str, label: str, caption: str, figure: go.Figure) -> PageFigure:
    safe = figure.to_json().replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return PageFigure(key, label[:1].upper() + label[1:], caption, Markup(safe))

"""The report: one HTML file that opens offline and reads from top to bottom as an answer, and the tables beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lora_sweep.errors import RunFolderError
from lora_sweep.store import RunFolder
from reports import (
    page_analysis,
    page_configurations,
    page_dynamics,
    page_mattered,
    page_parts,
    page_recommendation,
    page_table,
    savings,
    units,
)
from reports.advice import advise
from reports.analysis_export import write_analysis_tables
from reports.doubts import doubts
from reports.export import write_tables
from reports.page_figures import run_figures_of
from reports.pick import Pick, pick
from reports.recommendation import write_recommendation_table
from reports.rendering import PageFigure, page_figure, render, write_page
from reports.results import Results, read_results
from reports.table import table_rows

# Builders of figures: each yields key, title, caption and figure of what the run has.
_FIGURES = (
    run_figures_of,
    page_analysis.analysis_figures_of,
    page_configurations.seed_figures,
    page_dynamics.dynamics_figures_of,
    page_recommendation.recommendation_figures_of,
)


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
    """What the templates read, section by section; a section whose value is None or empty is left out."""
    chosen, reason = _pick(results)
    mattered = page_mattered.mattered_part(results)
    context = {
        "results": results,
        "name": str(results.info.get("name") or results.path.name),
        "status": str(results.info.get("status") or ""),
        "lead": _lead(results),
        "figures": _figures(results, mattered),
        "pick": chosen,
        # an imported run has no adapters
        "exportable": chosen is not None and not results.section("imported"),
        "no_pick": reason,
        "answer": _answer(results, chosen) if chosen else {},
        "doubts": doubts(results, chosen),
        "configurations": page_configurations.seed_section(results),
        "trials": _trials(results, chosen),
        "latency": page_analysis.latency_table(results),
        "recommendation": page_recommendation.recommendation_section(results),
        "mattered": mattered,
        "advice": advise(results),
        "cost": page_parts.cost_facts(results, chosen),
        "cost_details": savings.savings_texts(results),
        "failed": _failed(results),
        "run": _run(results),
    }
    return context | {"analysed": _analysed(context), "navigation": _navigation(context)}


def _navigation(context: dict[str, Any]) -> list[tuple[str, str]]:
    """Anchor and name of the sections that the page has, in its order."""
    sections = (
        ("pick", "Pick", True),
        ("doubt", "Doubts", True),
        ("configurations", "Over seeds", context["configurations"]),
        ("trials", "Trials", True),
        ("figures", "Figures", True),
        ("layers", "Ranks and layers", _analysed(context)),
        ("recommendation", "Recommended ranks", context["recommendation"]),
        ("mattered", "What mattered", context["mattered"]),
        ("dynamics", "Training", page_dynamics.FIGURES & set(context["figures"])),
        ("advice", "Advice", context["advice"]),
        ("cost", "Cost", True),
        ("failed", "Failed", context["failed"]),
        ("run", "How it was run", True),
        ("use", "Use it", context["exportable"]),
    )
    return [(anchor, name) for anchor, name, shown in sections if shown]


def _figures(results: Results, mattered: page_mattered.MatteredPart | None) -> dict[str, PageFigure]:
    drawn = [one for build in _FIGURES for one in build(results)]
    return {one[0]: page_figure(*one) for one in (*drawn, *(mattered.figures if mattered else ()))}


def _analysed(context: dict[str, Any]) -> bool:
    measured = page_analysis.FIGURES & set(context["figures"])
    return bool(measured or context["latency"].rows)


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


def _trials(results: Results, chosen: Pick | None) -> dict[str, Any]:
    rows = table_rows(results, chosen.trial_id if chosen and chosen.is_cut else None)
    table = page_table.trials_table(rows, results, chosen.trial_id if chosen else None)
    constants = [(key.replace("_", " "), value) for key, value in page_table.constants(rows)]
    return {"table": table, "constants": constants, "ties": _ties(results, chosen)}


def _ties(results: Results, chosen: Pick | None) -> str:
    """Whom the table marks as tied, and how many cuts of which it shows none but the picked one."""
    members = results.tied_candidates
    if not members:
        return ""
    trials = len(results.tied or ())
    size = units.plural(trials, "trial") + (
        f" (and {units.plural(more, 'cut')})" if (more := len(members) - trials) else ""
    )
    shown = " Of cuts the table shows the picked one alone." if chosen is not None and chosen.is_cut else ""
    return (
        f"“tie” marks the {size} that cannot be told from the best (comparison with the best, 95 %, paired over "
        f"examples).{shown}"
    )


def _failed(results: Results) -> dict[str, Any]:
    rows = results.with_status("failed").to_dict("records")
    return {"table": page_table.failed_table(rows), "kinds": page_table.failure_kinds(rows)} if rows else {}


def _run(results: Results) -> dict[str, Any]:
    return {
        "facts": page_parts.run_facts(results),
        "data": page_parts.data_facts(results),
        "devices": page_parts.device_facts(results),
    }


def _lead(results: Results) -> str:
    model, task = results.section("model").get("name"), results.section("task").get("type")
    parts = [str(model) if model else "", str(task) if task else ""]
    parts.append(units.plural(len(results.trials), "trial"))
    return " · ".join(part for part in parts if part)

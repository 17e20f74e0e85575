"""From a run folder to decisions: frames, the efficiency-quality table, the Pareto front, the pick and the page.

Everything reads a `RunFolder`; `read_results` reads it once for several uses. What needs plotly loads on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from reports.export import write_tables
from reports.frame import baseline_frame, points_frame, trial_frame
from reports.metric import Metric
from reports.pareto import pareto_front
from reports.pick import Pick, pick
from reports.pick_cost import CostRule
from reports.pick_limits import Limits
from reports.results import Results, read_results
from reports.table import SUMMARY_COLUMNS, TableRow, summary_table, table_rows

if TYPE_CHECKING:
    from reports.page import render_page, write_report
    from reports.page_comparison import write_comparison

__all__ = [
    "CostRule",
    "Limits",
    "Metric",
    "Pick",
    "Results",
    "SUMMARY_COLUMNS",
    "TableRow",
    "baseline_frame",
    "pareto_front",
    "pick",
    "points_frame",
    "read_results",
    "render_page",
    "summary_table",
    "table_rows",
    "trial_frame",
    "write_comparison",
    "write_report",
    "write_tables",
]

_LAZY = {
    "render_page": "reports.page",
    "write_comparison": "reports.page_comparison",
    "write_report": "reports.page",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

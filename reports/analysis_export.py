"""The data of the analyses' figures as CSV files, where they were measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from lora_sweep.store import RunFolder
from reports.analysis_info import analysis_of
from reports.csv_files import write_csv
from reports.results import Results, read_results

# analysis, table, and the list in each trial that gives its rows
_TABLES = (
    ("rank_curves", "rank_curves", "cuts"),
    ("spectra", "spectra", "layers"),
    ("spectra", "norms", "norms"),
    ("importance", "importance", "layers"),
    ("latency", "latency", "rows"),
)


def write_analysis_tables(run: RunFolder | Results) -> list[Path]:
    """Write RUN/tables/{rank_curves,spectra,norms,importance,latency}.csv of what was measured.

    Returns:
        The files.
    """
    results = read_results(run)
    files = []
    for analysis, table, rows in _TABLES:
        content = analysis_of(results, analysis)
        found = [
            {"trial_id": trial["trial_id"], **_flat(row)}
            for trial in (content or {}).get("trials", ())
            for row in trial[rows]
        ]
        if found:
            files.append(write_csv(pd.DataFrame(found), results.path / "tables" / f"{table}.csv"))
    return files


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics as columns of their own; lists as text; the ranks of every layer stay in the JSON file."""
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if key == "metrics":
            flat |= value
        elif isinstance(value, list):
            flat[key] = " ".join(map(repr, value))
        elif not isinstance(value, Mapping):
            flat[key] = value
    return flat

"""The tables of a run as CSV files, with full precision and every metric."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from lora_sweep.store import RunFolder
from reports.csv_files import write_csv
from reports.figure_info import front_frame
from reports.results import Results, read_results

_PARETO_COLUMNS = (
    "trial_id",
    "quality",
    "trainable_parameters",
    "adapter_bytes",
    "device_seconds",
    "rank",
    "target_label",
)


def write_tables(run: RunFolder | Results) -> list[Path]:
    """Write RUN/tables/{trials,curves,pareto,baselines}.csv.

    `pareto.csv` holds the complete trials that nothing beats on quality and parameters, or on quality and
    device time, and says which.

    Returns:
        The files.
    """
    results = read_results(run)
    tables = {
        "trials": _with_intervals(results),
        "curves": results.points,
        "pareto": pareto_table(results),
        "baselines": results.baselines,
    }
    return [write_csv(table, results.path / "tables" / f"{name}.csv") for name, table in tables.items()]


def _with_intervals(results: Results) -> pd.DataFrame:
    """The trials with the 95 % intervals of their metric over examples, and whether they are tied with the best."""
    columns: dict[str, Any] = {}
    for part, value in (("eval", "quality"), ("test", "test_quality")):
        pairs = zip(results.trials["trial_id"], results.trials[value].astype(float), strict=True)
        bounds = [results.interval(part, str(name), number) or (math.nan, math.nan) for name, number in pairs]
        columns |= {f"{value}_low": [low for low, _ in bounds], f"{value}_high": [high for _, high in bounds]}
    tied = results.tied
    known = results.trials["status"] == "complete"
    columns["tied"] = [None] * len(known) if tied is None else results.trials["trial_id"].isin(tied).where(known)
    return results.trials.assign(**columns)


def pareto_table(results: Results) -> pd.DataFrame:
    """The trials on a front, best first, with `front_parameters` and `front_device_seconds`."""
    by_size = front_frame(results, "trainable_parameters")
    by_time = front_frame(results, "device_seconds")
    table = by_size[list(_PARETO_COLUMNS)].assign(
        front_parameters=by_size["on_front"], front_device_seconds=by_time["on_front"]
    )
    table = table[table["front_parameters"] | table["front_device_seconds"]]
    return table.sort_values("quality", ascending=results.metric.mode == "min", kind="stable")

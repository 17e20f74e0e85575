"""The tables of a run as CSV files, with full precision and every metric."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from lora_sweep.store import RunFolder
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
        "trials": results.trials,
        "curves": results.points,
        "pareto": pareto_table(results),
        "baselines": results.baselines,
    }
    folder = results.path / "tables"
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, table in tables.items():
        file = folder / f"{name}.csv"
        part = file.with_name(file.name + ".part")
        table.to_csv(part, index=False)
        part.replace(file)
        files.append(file)
    return files


def pareto_table(results: Results) -> pd.DataFrame:
    """The trials on a front, best first, with `front_parameters` and `front_device_seconds`."""
    by_size = front_frame(results, "trainable_parameters")
    by_time = front_frame(results, "device_seconds")
    table = by_size[list(_PARETO_COLUMNS)].assign(
        front_parameters=by_size["on_front"], front_device_seconds=by_time["on_front"]
    )
    table = table[table["front_parameters"] | table["front_device_seconds"]]
    return table.sort_values("quality", ascending=results.metric.mode == "min", kind="stable")

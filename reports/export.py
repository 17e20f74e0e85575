"""The tables of a run as CSV files, with full precision and every metric."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from lora_sweep.store import RunFolder
from reports.configurations import PARTS, SOURCES, ConfigurationSummary, configuration_summaries
from reports.csv_files import write_csv
from reports.figure_info import front_frame
from reports.results import Results, read_results

_PARETO_COLUMNS = (
    "trial_id",
    "kind",
    "source",
    "quality",
    "trainable_parameters",
    "adapter_bytes",
    "device_seconds",
    "rank",
    "target_label",
)


def write_tables(run: RunFolder | Results) -> list[Path]:
    """Write RUN/tables/{trials,curves,pareto,baselines}.csv, and {repeats,configurations}.csv where there are seeds.

    `pareto.csv` holds the complete trials and their cuts that nothing beats on quality and parameters, and the trials
    that nothing beats on quality and device time; it says which. `repeats.csv` has the columns of `trials.csv` without
    intervals.

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
    seeds = {"repeats": results.repeats, "configurations": configurations_table(results)}
    tables |= {name: table for name, table in seeds.items() if len(table)}
    return [write_csv(table, results.path / "tables" / f"{name}.csv") for name, table in tables.items()]


def _with_intervals(results: Results) -> pd.DataFrame:
    """The trials with the 95 % intervals of their metric over examples, and whether they are tied with the best."""
    columns: dict[str, Any] = {}
    for part, value in (("eval", "quality"), ("test", "test_quality")):
        pairs = zip(results.trials["trial_id"], results.trials[value].astype(float), strict=True)
        bounds = [results.interval(part, str(name), number) or (math.nan, math.nan) for name, number in pairs]
        columns |= {f"{value}_low": [low for low, _ in bounds], f"{value}_high": [high for _, high in bounds]}
    columns["tied"] = [results.tied_with_best(str(name)) for name in results.trials["trial_id"]]
    return results.trials.assign(**columns)


def configurations_table(results: Results) -> pd.DataFrame:
    """The configurations with several seeds, a row for each part of the data and each source of seeds."""
    return pd.DataFrame(
        {"part": part, "source": source} | _configuration_row(one)
        for source in SOURCES
        for part in PARTS
        for one in configuration_summaries(results, part, source)
    )


def _configuration_row(one: ConfigurationSummary) -> dict[str, Any]:
    unknown = (math.nan, math.nan)
    row = asdict(one)
    row["mean_low"], row["mean_high"] = row.pop("bounds") or unknown
    row["gain_low"], row["gain_high"] = row.pop("gain_bounds") or unknown
    return row | {"seeds": one.seeds, "values": " ".join(f"{name}={value!r}" for name, value in one.values)}


def pareto_table(results: Results) -> pd.DataFrame:
    """The candidates on a front, best first, with `front_parameters` and `front_device_seconds`."""
    by_size = front_frame(results, "trainable_parameters")
    by_time = front_frame(results, "device_seconds")
    table = by_size[list(_PARETO_COLUMNS)].assign(
        front_parameters=by_size["on_front"],
        front_device_seconds=by_time["on_front"].reindex(by_size.index, fill_value=False),
    )
    table = table[table["front_parameters"] | table["front_device_seconds"]]
    return table.sort_values("quality", ascending=results.metric.mode == "min", kind="stable")

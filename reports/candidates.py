"""What a pick chooses among: complete trials as they were trained, and the cuts of their adapters (docs/pick.md).

A cut is a candidate like a trial: it has its own adapter, size and answers on the evaluation examples, and it was
looked at there, so it counts in every correction for having picked. It cost what its trial cost to train.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from reports import units
from reports.frame import NO_TARGETS, finite, row_dicts, tested_metrics
from reports.metric import Metric

OWN_COLUMNS = ("kind", "source", "rank_text", "made", "latency_seconds", "latency_low", "latency_high")
"""What `candidate_frame` adds to the columns of `trial_frame`."""

_UNKNOWN_AT_ZERO = ("adapter_bytes", "state_bytes", "device_seconds")


def candidate_frame(
    trials: pd.DataFrame,
    metric: Metric,
    rank_curves: Mapping[str, Any] | None = None,
    latency: Mapping[str, Any] | None = None,
    tested: Mapping[str, Mapping[str, Any]] | None = None,
) -> pd.DataFrame:
    """One row a candidate: complete and stopped trials, then the cuts of complete ones.

    The columns are those of `trial_frame`, and `kind` (`trial` or `cut`), `source` (the trial that was trained),
    `rank_text` (`4`, or `1 to 5` where layers differ), `made` (how a cut was made, else empty), `latency_seconds` with
    its quartiles `latency_low` and `latency_high` (the median of unmerged passes over the smallest batch that was
    timed; NaN where it was not). A cut has its own size and metrics, and the settings, time and memory of its source.
    Trials that repeat another one's configuration are no candidates.

    Args:
        trials: see `trial_frame`.
        metric: the run's metric.
        rank_curves: the content of RUN/analysis/rank_curves.json.
        latency: the content of RUN/analysis/latency.json.
        tested: what was measured on test by name, see `tested_rows`.
    """
    rows = [
        row | {"kind": "trial", "source": row["trial_id"], "rank_text": _rank_text(row), "made": ""}
        for row in row_dicts(trials[trials["status"].isin(("complete", "stopped"))])
    ]
    rows += _cut_rows({row["trial_id"]: row for row in rows}, metric, rank_curves or {}, tested or {})
    times = _latencies(latency or {})
    unknown = dict.fromkeys(("latency_seconds", "latency_low", "latency_high"), math.nan)
    rows = [row | times.get(row["trial_id"], unknown) for row in rows]
    seen = [name for row in rows for name in row]
    return pd.DataFrame(rows, columns=list(dict.fromkeys([*trials.columns, *OWN_COLUMNS, *seen])))


def measured(rows: pd.DataFrame, column: str) -> pd.Series[float]:
    """A column of costs as numbers; NaN where it was not measured."""
    values = rows[column].astype(float)
    return values.mask(values <= 0) if column in _UNKNOWN_AT_ZERO else values


def describe(row: Mapping[str, Any]) -> str:
    """A candidate in words: `Trial 009`, or `Trial 009 cut to rank 4 by SVD, with no further training`."""
    return f"Trial {row['source']}{cut_words(row)}"


def cut_words(row: Mapping[str, Any]) -> str:
    """How a cut was made, to be put behind its trial's name; empty for a trial."""
    return f" {row['made']} by SVD, with no further training" if row["kind"] == "cut" else ""


def _cut_rows(
    sources: Mapping[str, dict[str, Any]],
    metric: Metric,
    rank_curves: Mapping[str, Any],
    tested: Mapping[str, Mapping[str, Any]],
) -> Iterator[dict[str, Any]]:
    seen = set(sources)
    for trial in _mappings(rank_curves.get("trials")):
        source = sources.get(str(trial.get("trial_id")))
        if source is None or source["status"] != "complete" or math.isnan(source["quality"]):
            continue
        for one in _mappings(trial.get("cuts")):
            name = str(one.get("name"))
            row = _cut_row(one, name, source, metric, tested.get(name, {}))
            if name not in seen and not math.isnan(row["quality"]):
                seen.add(name)
                yield row


def _cut_row(
    one: Mapping[str, Any], name: str, source: Mapping[str, Any], metric: Metric, tested: Mapping[str, Any]
) -> dict[str, Any]:
    metrics = {key: finite(value) for key, value in one.get("metrics", {}).items()}
    ranks = [int(rank) for rank in one.get("ranks", {}).values()] or [int(one.get("amount", 0))]
    alike = min(ranks) == max(ranks)
    parameters, base = int(one["parameters"]), source["base_parameters"]
    row = {key: math.nan if key.startswith(("test_", "eval_")) else value for key, value in source.items()}
    row |= {f"eval_{key}": value for key, value in metrics.items()} | tested_metrics(tested, metric)
    return row | {
        "trial_id": name,
        "kind": "cut",
        "rank": max(ranks),
        "rank_text": str(ranks[0]) if alike else f"{min(ranks)} to {max(ranks)}",
        "made": _made(one, ranks),
        # a cut keeps the scaling of every layer
        "alpha": source["alpha_over_rank"] * ranks[0] if alike else math.nan,
        "quality": metrics.get(metric.name, math.nan),
        "trainable_parameters": parameters,
        "adapter_parameters": int(one.get("adapter_parameters", 0)),
        "adapter_bytes": int(one.get("adapter_bytes") or 0),
        "share": parameters / base if base > 0 else math.nan,
        "configuration": f"{source['configuration']}@{name.partition('@')[2]}",
    }


def _made(one: Mapping[str, Any], ranks: Sequence[int]) -> str:
    if one.get("method") == "uniform":
        return f"cut to rank {one['amount']:g}"
    share = f"{100 * finite(one.get('amount')):g} % of"
    where = {"global-energy": f"{share} its energy", "layer-energy": f"{share} every layer's energy"}
    span = f"ranks {min(ranks)} to {max(ranks)}" if min(ranks) < max(ranks) else f"rank {ranks[0]}"
    return f"cut to {where.get(str(one.get('method')), 'lower ranks')} ({span})"


def _rank_text(row: Mapping[str, Any]) -> str:
    return units.MISSING if row["target_label"] == NO_TARGETS else units.number(row["rank"])


def _latencies(latency: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Seconds of unmerged passes over the smallest batch, by name."""
    found = {}
    for trial in _mappings(latency.get("trials")):
        rows = [row for row in _mappings(trial.get("rows")) if row.get("variant") == "unmerged"]
        if rows:
            row = min(rows, key=lambda one: int(one["batch_size"]))
            found[str(trial.get("trial_id"))] = {
                "latency_seconds": finite(row.get("median_seconds")),
                "latency_low": finite(row.get("quartile_1_seconds")),
                "latency_high": finite(row.get("quartile_3_seconds")),
            }
    return found


def _mappings(values: object) -> list[Mapping[str, Any]]:
    return [one for one in values if isinstance(one, Mapping)] if isinstance(values, list) else []

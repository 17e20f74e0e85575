"""A run folder as pandas frames: one row a trial, one row an evaluation, one row a baseline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import pandas as pd

from lora_sweep.records import TrialRecord, fingerprint
from lora_sweep.store import RunFolder
from reports import units
from reports.metric import Metric, read_metric

NO_TARGETS = "no LoRA (head only)"
"""The target label of a trial that adapts no layer."""

UNKNOWN_TARGETS = "unknown targets"
"""The target label of a trial of which nobody knows what it adapts."""

_MAIN_SETTINGS = frozenset({"rank", "alpha", "learning_rate", "target_modules"})
"""Where none of them is known, nobody can say that two trials had the same settings."""

_TRIAL_COLUMNS = (
    "trial_id", "status", "rank", "alpha", "alpha_over_rank", "dropout", "bias", "target_label", "learning_rate",
    "batch_size", "seed", "step", "reached_step", "steps", "share_of_budget", "quality", "test_quality",
    "test_examples", "trainable_parameters", "adapter_parameters", "base_parameters", "share", "adapter_bytes",
    "tokens", "device_seconds", "evaluation_seconds", "solo_seconds", "solo_source", "wall_seconds", "state_bytes",
    "peak_memory_bytes",
    "configuration", "repeat_of", "accumulate", "optimizer", "weight_decay", "schedule", "warmup", "clip", "error",
)  # fmt: skip
_POINT_COLUMNS = (
    "trial_id", "status", "rank", "target_label", "step", "quality", "train_loss", "learning_rate", "tokens",
    "wall_seconds", "device_seconds", "norm_a", "norm_b", "norm_update",
)  # fmt: skip
_BASELINE_COLUMNS = (
    "name", "outcomes_id", "quality", "test_quality", "trainable_parameters", "adapter_bytes", "device_seconds", "note",
)  # fmt: skip


def trial_frame(run: RunFolder) -> pd.DataFrame:
    """One row per trial, in the order in which they ended.

    `quality` is the run's metric at the kept evaluation and `test_quality` the same on the test data (finalists,
    and what was measured there at its export); every metric also stands under `eval_NAME` and `test_NAME`. `step` is
    the kept evaluation, `reached_step` the last one, `share_of_budget` that over the full budget, `share` the
    trainable parameters over the base's; trials with the same `configuration` differ in their seeds alone. What is
    not known is NaN or None, also where the record has a placeholder for it (`TrialRecord.unknown`).
    """
    records = run.records()
    return build_trial_frame(records, tested_rows(run), run_metric(run_info(run), records))


def points_frame(run: RunFolder) -> pd.DataFrame:
    """One row per evaluation of every trial (long format), with `eval_NAME` for every metric and `norm_a`, `norm_b`
    and `norm_update` (Frobenius, over all layers) where they were noted.
    """
    records = run.records()
    return build_points_frame(records, run_metric(run_info(run), records))


def baseline_frame(run: RunFolder) -> pd.DataFrame:
    """One row per baseline, with `eval_NAME` and `test_NAME` for every metric; empty when none was measured."""
    return build_baseline_frame(run.analysis("baselines"), run_metric(run_info(run), run.records()))


def run_info(run: RunFolder) -> dict[str, Any]:
    """The content of run.json; empty while there is none."""
    return run.info() if (run.path / "run.json").is_file() else {}


def run_metric(info: Mapping[str, Any], records: Sequence[TrialRecord]) -> Metric:
    """The run's metric, from run.json or else from what the trials measured."""
    return read_metric(info, next((record.metrics for record in records if record.metrics), None))


def tested_rows(run: RunFolder) -> dict[str, Mapping[str, Any]]:
    """What was measured on test, by trial or cut: finalists, and adapters that were measured at their export."""
    rows = [*_rows(run.analysis("exports")), *_rows(run.analysis("finalists"))]
    return {str(row.get("trial_id")): row for row in rows if _mapping(_mapping(row.get("metrics")).get("test"))}


def tested_metrics(tested: Mapping[str, Any], metric: Metric) -> dict[str, float]:
    """The columns on test of a row of `tested_rows`; NaN where it is empty."""
    test = _mapping(_mapping(tested.get("metrics")).get("test"))
    own = {"test_quality": finite(test.get(metric.name)), "test_examples": finite(tested.get("examples"))}
    return own | _prefixed("test", test)


def build_trial_frame(
    records: Sequence[TrialRecord], tested: Mapping[str, Mapping[str, Any]], metric: Metric
) -> pd.DataFrame:
    """`trial_frame` from what was read already; `tested` as `tested_rows` gives it."""
    rows = [_trial_row(record, tested.get(record.trial_id, {}), metric) for record in records]
    return _frame(rows, _TRIAL_COLUMNS)


def build_points_frame(records: Sequence[TrialRecord], metric: Metric) -> pd.DataFrame:
    """`points_frame` from what was read already."""
    rows = []
    for record in records:
        head = {"trial_id": record.trial_id, "status": record.status}
        head |= _hidden({"rank": record.config.rank, "target_label": target_label(record)}, record)
        for point in record.history:
            own = _hidden(point.model_dump(exclude={"metrics", "norms"}), record, keep=("step", "learning_rate"))
            norms = point.norms
            own |= {f"norm_{name}": getattr(norms, name) if norms else math.nan for name in ("a", "b", "update")}
            quality = {"quality": finite(point.metrics.get(metric.name))}
            rows.append(head | own | quality | _prefixed("eval", point.metrics))
    return _frame(rows, _POINT_COLUMNS)


def build_baseline_frame(baselines: Mapping[str, Any] | None, metric: Metric) -> pd.DataFrame:
    """`baseline_frame` from what was read already."""
    rows = []
    for row in _rows(baselines):
        metrics = _mapping(row.get("metrics"))
        evaluated, tested = _mapping(metrics.get("eval")), _mapping(metrics.get("test"))
        known: dict[str, Any] = {"name": str(row.get("name", "")), "note": str(row.get("note") or "")}
        known["outcomes_id"] = str(row.get("trial_id") or known["name"])
        for key in ("trainable_parameters", "adapter_bytes", "device_seconds"):
            known[key] = finite(row.get(key))
        known |= {"quality": finite(evaluated.get(metric.name)), "test_quality": finite(tested.get(metric.name))}
        rows.append(known | _prefixed("eval", evaluated) | _prefixed("test", tested))
    return _frame(rows, _BASELINE_COLUMNS)


def target_label(record: TrialRecord) -> str:
    """The space's name for the trial's targets, or the targets themselves."""
    if "target_modules" in record.unknown:
        return UNKNOWN_TARGETS
    if record.config.target_label:
        return record.config.target_label
    modules = record.config.target_modules
    return (modules if isinstance(modules, str) else ", ".join(modules)) or NO_TARGETS


def row_dicts(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a frame as mappings from column to value."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def bias_text(bias: object) -> str:
    """What to say of a trial's biases: only that they are trained is worth a word."""
    return "trained" if bias == "lora_only" else units.MISSING


def finite(value: object) -> float:
    """A number as a float; NaN for anything else and for infinities."""
    # numpy's numbers are Real, though not all of them are int or float
    if isinstance(value, Real) and math.isfinite(value):
        return float(value)
    return math.nan


def whole(value: object) -> int | None:
    """A number of a frame as a whole one; None where it is not known."""
    number = finite(value)
    return None if math.isnan(number) else int(number)


def _trial_row(record: TrialRecord, tested: Mapping[str, Any], metric: Metric) -> dict[str, Any]:
    config, cost = record.config, record.cost
    unknown = set(record.unknown)
    reached = _reached(record)
    own = record.model_dump(include={"trial_id", "status", "repeat_of", "step", "error", "tokens", "adapter_bytes"})
    own |= record.model_dump(include={"trainable_parameters", "adapter_parameters", "base_parameters"})
    own |= config.model_dump(include={"rank", "alpha", "dropout", "learning_rate", "batch_size", "seed", "steps"})
    own |= config.model_dump(include={"bias", "accumulate", "optimizer", "weight_decay", "schedule", "warmup", "clip"})
    own |= cost.model_dump() | {name: finite(getattr(cost, name)) for name in ("evaluation_seconds", "solo_seconds")}
    own |= {
        "alpha_over_rank": math.nan if {"alpha", "rank"} & unknown else config.alpha / config.rank,
        "target_label": target_label(record),
        "configuration": _configuration(record),
        "reached_step": reached,
        "share_of_budget": math.nan if "steps" in unknown or math.isnan(reached) else min(1.0, reached / config.steps),
        "quality": finite(record.metrics.get(metric.name)),
        "share": _share(record),
    }
    return _hidden(own, record) | _prefixed("eval", record.metrics) | tested_metrics(tested, metric)


def _configuration(record: TrialRecord) -> str:
    """A name that trials share which differ in their seeds alone; of a trial without known settings its own."""
    unknown = set(record.unknown)
    if unknown >= _MAIN_SETTINGS:
        return fingerprint({"trial_id": record.repeat_of or record.trial_id})
    return fingerprint(record.config.model_dump(mode="json", exclude={"seed", *unknown}))


def _reached(record: TrialRecord) -> float:
    """The last step that is on record; a whole number unless it is NaN."""
    steps = [point.step for point in record.history]
    if "step" not in record.unknown:
        steps.append(record.step)
    return max(steps, default=math.nan)


def _share(record: TrialRecord) -> float:
    if not record.base_parameters or "trainable_parameters" in record.unknown:
        return math.nan
    return record.trainable_parameters / record.base_parameters


def _hidden(row: Mapping[str, Any], record: TrialRecord, keep: Sequence[str] = ()) -> dict[str, Any]:
    """A row without the placeholders of what is unknown; `keep` names what a row has of its own."""
    blank = {name: math.nan for name in record.unknown if name in row and name not in keep}
    return {**row, **blank}


def _prefixed(part: str, metrics: Mapping[str, Any]) -> dict[str, float]:
    return {f"{part}_{name}": finite(value) for name, value in metrics.items()}


def _rows(analysis: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    rows = (analysis or {}).get("rows")
    return [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _frame(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    """A frame that has `columns` first and even when there is no row."""
    seen = [name for row in rows for name in row]
    return pd.DataFrame([dict(row) for row in rows], columns=list(dict.fromkeys([*columns, *seen])))

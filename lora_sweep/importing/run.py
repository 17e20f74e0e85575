"""A table of somebody else's sweep as a run folder, with what it does not say named in run.json."""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lora_sweep import __version__
from lora_sweep.errors import RunFolderError
from lora_sweep.importing.columns import Columns, find_columns
from lora_sweep.importing.fields import FIELDS
from lora_sweep.importing.mapping import ImportMap, load_map
from lora_sweep.importing.outcomes import OutcomeTable, read_outcome_table
from lora_sweep.importing.tables import read_table
from lora_sweep.importing.trials import Trials, read_trials
from lora_sweep.records import SCHEMA_VERSION
from lora_sweep.store import RunFolder, as_run_folder_error

_TOLD = (
    "rank", "alpha", "dropout", "target_modules", "learning_rate", "batch_size", "seed", "steps", "step", "train_loss",
    "trainable_parameters", "device_seconds",
)  # fmt: skip
"""The fields whose absence a reader must know of."""


def import_table(
    table: Path,
    *,
    columns: Path | None = None,
    outcomes: Path | None = None,
    into: Path | None = None,
    name: str | None = None,
) -> RunFolder:
    """Make a run folder of a table of results.

    Args:
        table: csv, tsv, jsonl or parquet: one row a trial, or one row an evaluation.
        columns: MAP.yaml, see `ImportMap`.
        outcomes: a table of answers on single examples.
        into: the run folder; by default `TABLE-run` beside the table. One that was imported before is replaced.
        name: of the run; by default the file's.

    Raises:
        ConfigError, DataError: with the place, the rule, the value and the fix.
        RunFolderError: something that was not imported stands at `into`.
    """
    options = load_map(columns)
    content = read_table(table, options)
    found = find_columns(content, options)
    trials = read_trials(content, found, options)
    names = [record.trial_id for record in trials.records]
    answers = read_outcome_table(outcomes, options, names) if outcomes is not None else None
    info = _info(table, name or table.stem, options, found, trials, answers)
    info["imported"] |= {"rows": content.rows, "outcomes": None if outcomes is None else str(outcomes.absolute())}
    return _write(into or table.with_name(f"{table.stem}-run"), info, trials, answers)


def _write(target: Path, info: Mapping[str, Any], trials: Trials, answers: OutcomeTable | None) -> RunFolder:
    """Build the folder beside its place, so that a half-made one never stands there."""
    if target.exists() and not _was_imported(target):
        fix = "Choose another with --into, or remove it."
        raise RunFolderError(str(target), "must be free, or a run that was imported before", None, fix)
    part = target.with_name(f"{target.name}.part")
    with as_run_folder_error(target):
        shutil.rmtree(part, ignore_errors=True)
    run = RunFolder.create(part)
    run.write_info(info)
    run.append_records(trials.records)
    if trials.tested:
        run.write_analysis("finalists", {"top": len(trials.tested), "rows": _finalists(trials, info)})
    if answers is not None:
        for trial_id, rows in answers.of(trials.records):
            run.write_outcomes(trial_id, rows)
    with as_run_folder_error(target):
        if target.exists():
            shutil.rmtree(target)
        part.rename(target)
    return RunFolder.open(target)


def _was_imported(path: Path) -> bool:
    return (path / "run.json").is_file() and "imported" in RunFolder.open(path).info()


def _finalists(trials: Trials, info: Mapping[str, Any]) -> list[dict[str, Any]]:
    of_all = info["data"]["parts"].get("test", {}).get("examples")
    rows = []
    for trial_id, values in trials.tested.items():
        metrics = {name: value for name, value in values.items() if name != "examples"}
        row = {"trial_id": trial_id, "metrics": {"test": metrics}, "examples": values.get("examples", of_all)}
        rows.append(row)
    return rows


def _info(
    table: Path, name: str, options: ImportMap, found: Columns, trials: Trials, answers: OutcomeTable | None
) -> dict[str, Any]:
    statuses = Counter(record.status for record in trials.records)
    info: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "name": name,
        "status": "imported",
        "metric": {"name": found.metric, "mode": found.mode} | _keep(options, trials),
        "model": {} if options.model is None else {"name": options.model},
        "data": {"parts": _parts(options, answers), "notes": []},
        "trials": {status: statuses[status] for status in ("complete", "stopped", "failed")},
        "versions": {"lora_sweep": __version__},
        "imported": {
            "table": str(table.absolute()),
            "sha256": hashlib.sha256(table.read_bytes()).hexdigest(),
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "columns": dict(found.of),
            "unused": list(found.unused),
            "missing": [name for name in _TOLD if name not in found.of and not (name == "steps" and options.budget)],
            "incomplete": _incomplete(found, trials),
            "rows_left_out": trials.rows_left_out,
            "not_finite": dict(trials.not_finite),
            "has_status": trials.has_status,
            "has_trial_ids": "trial_id" in found.of,
        },
    }
    if answers is not None and answers.labels:
        info["task"] = {"type": "classification", "labels": list(answers.labels)}
    return info


def _keep(options: ImportMap, trials: Trials) -> dict[str, str]:
    return {"keep": options.metric.keep} if trials.several_rows else {}


def _parts(options: ImportMap, answers: OutcomeTable | None) -> dict[str, dict[str, int]]:
    """The sizes of the data: as the map says, else as many examples as have outcomes."""
    parts = {}
    for part, said in (("eval", options.examples.eval), ("test", options.examples.test)):
        frame = None if answers is None else answers.frame
        seen = 0 if frame is None else int(frame.loc[frame["split"] == part, "example_id"].nunique())
        if said or seen:
            parts[part] = {"examples": said or seen}
    return parts


def _incomplete(found: Columns, trials: Trials) -> dict[str, int]:
    """Of the settings and sizes that the table has: in how many trials they are unknown all the same."""
    counts = Counter(name for record in trials.records for name in record.unknown)
    names = [name for name in found.of if name in _TOLD and FIELDS[name].place != "trial"]
    return {name: counts[name] for name in names if counts[name]}

"""The trials among which the pick is made: chosen on eval, trained again with new seeds, scored on test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lora_sweep.records import TrialRecord
from lora_sweep.store import RunFolder
from lora_sweep.sweep.baselines import Engine
from lora_sweep.sweep.candidates import Repeat

if TYPE_CHECKING:
    from lora_sweep.config import SweepConfig
    from lora_sweep.tasks import EncodedTask


def finalists(config: SweepConfig, run: RunFolder) -> list[TrialRecord]:
    """The finalists, chosen at the first call and read from RUN/analysis/finalists.json at every later one.

    The choice stands although a resumed sweep may train trials that had failed: test has been seen, or new seeds are
    under way.
    """
    # pandas is wanted here alone
    from reports.finalists import choose_finalists

    chosen = [row["trial_id"] for row in _rows(run) if row.get("repeat_of") is None]
    if not chosen:
        chosen = choose_finalists(run, config.finalists.top)
        _write(config, run, [{"trial_id": trial_id, "repeat_of": None} for trial_id in chosen])
    records = {record.trial_id: record for record in run.records()}
    return [records[trial_id] for trial_id in chosen]


def list_repeats(config: SweepConfig, records: Sequence[TrialRecord]) -> list[Repeat]:
    """The finalists' configurations with `finalists.seeds` new seeds each: every finalist's first, then the second."""
    first = config.search.repeats + 1
    return [
        Repeat(record.trial_id, number, config.with_seed(record.config, number))
        for number in range(first, first + config.finalists.seeds)
        for record in records
    ]


def score_finalists(config: SweepConfig, task: EncodedTask, run: RunFolder, engine: Engine) -> None:
    """Score the finalists and their complete repeats on test and write RUN/analysis/finalists.json.

    What was scored before stays as it is.
    """
    records = finalists(config, run)
    records += [record for record in run.records() if record.repeat_of is not None and record.status == "complete"]
    known = {row["trial_id"]: row for row in _rows(run) if "metrics" in row}
    rows = [known.get(record.trial_id) or _score(record, task, run, engine) for record in records]
    _write(config, run, rows)


def _score(record: TrialRecord, task: EncodedTask, run: RunFolder, engine: Engine) -> dict[str, Any]:
    name = record.trial_id
    metrics = engine.score(str(run.adapter_dir(name)), "test", name, record.step)
    examples = len(task.splits["test"])
    return {"trial_id": name, "repeat_of": record.repeat_of, "metrics": {"test": metrics}, "examples": examples}


def _rows(run: RunFolder) -> list[dict[str, Any]]:
    return list((run.analysis("finalists") or {}).get("rows", ()))


def _write(config: SweepConfig, run: RunFolder, rows: Sequence[dict[str, Any]]) -> None:
    run.write_analysis("finalists", {**config.finalists.model_dump(), "rows": rows})

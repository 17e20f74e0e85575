"""The trials that lead on eval, scored once on test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lora_sweep.records import TrialRecord
from lora_sweep.store import RunFolder
from lora_sweep.sweep.baselines import Engine

if TYPE_CHECKING:
    from lora_sweep.config import SweepConfig
    from lora_sweep.tasks import EncodedTask


def choose_finalists(records: Sequence[TrialRecord], metric: str, mode: str, top: int) -> list[TrialRecord]:
    """The best complete trials by their kept evaluation, best first.

    Equals are decided by fewer trainable parameters, then by id, as in the reports: the pick is a finalist.
    """
    sign = -1 if mode == "max" else 1
    complete = [
        record
        for record in records
        if record.status == "complete" and math.isfinite(record.metrics.get(metric, math.nan))
    ]
    complete.sort(key=lambda record: (sign * record.metrics[metric], record.trainable_parameters, record.trial_id))
    return complete[:top]


def score_finalists(config: SweepConfig, task: EncodedTask, run: RunFolder, engine: Engine) -> None:
    """Score the finalists on test and write RUN/analysis/finalists.json."""
    chosen = choose_finalists(run.records(), config.metric.name, config.metric.mode, config.finalists.top)
    rows = [
        {
            "trial_id": record.trial_id,
            "metrics": {
                "test": engine.score(str(run.adapter_dir(record.trial_id)), "test", record.trial_id, record.step)
            },
            "examples": len(task.splits["test"]),
        }
        for record in chosen
    ]
    run.write_analysis("finalists", {"top": config.finalists.top, "rows": rows})

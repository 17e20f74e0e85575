"""The schedulers: who may train on.

Time is counted in evaluations (`training_iteration`), so trials with different batch sizes meet at the same rungs.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from lora_sweep.records import TrialRecord
from lora_sweep.sweep.objective import values_over_time

if TYPE_CHECKING:
    from lora_sweep.config import SweepConfig


class ReplayingAsha(AsyncHyperBandScheduler):  # type: ignore[misc]  # Ray ships no types
    """ASHA (arXiv 1810.05934) that has its rungs again after `Tuner.restore`.

    Tune does not save a scheduler's state. It does keep every trial's last result, which here carries the trial's whole
    record, so each restored trial's evaluations are entered into the rungs again when Tune adds it. What a sweep that
    was killed reported after Tune's last snapshot (about a second) is missing until those trials report again.

    Args:
        keep: `best` or `last`, as the sweep keeps evaluations.
        arguments: of `AsyncHyperBandScheduler`; `metric` and `mode` among them.
    """

    def __init__(self, keep: str, **arguments: Any) -> None:
        super().__init__(time_attr="training_iteration", **arguments)
        self._keep = keep

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Enter what a restored trial has reported."""
        super().on_trial_add(tune_controller, trial)
        text = (trial.last_result or {}).get("record")
        if text is None:
            return
        try:
            record = TrialRecord.model_validate_json(text)
        except ValidationError:  # a failed trial (see RecordKeeper), which has no say in the rungs
            return
        for iteration, value in enumerate(values_over_time(record, self._metric, self._mode, self._keep), start=1):
            result = {"training_iteration": iteration, self._metric: value}
            # the answer to an old evaluation is of no interest: only the rungs are
            super().on_trial_result(tune_controller, SimpleNamespace(trial_id=trial.trial_id), result)


def build_scheduler(config: SweepConfig, evaluations: int) -> TrialScheduler:
    """The scheduler that `scheduler.type` names.

    Args:
        config: the sweep.
        evaluations: the most evaluations that a trial has; the top rung lies at or below it.
    """
    if config.scheduler.type == "fifo":
        return FIFOScheduler()
    return ReplayingAsha(
        keep=config.metric.keep,
        metric=config.metric.name,
        mode=config.metric.mode,
        max_t=evaluations,
        grace_period=min(config.scheduler.grace, evaluations),
        reduction_factor=config.scheduler.reduction,
        stop_last_trials=False,  # a trial ends by itself when its own budget is spent
    )

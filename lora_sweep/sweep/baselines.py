"""What the trials are compared with: knowing the labels' frequencies, the untouched base, the head alone."""

from __future__ import annotations

import logging
import math
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

from lora_sweep.engine.api import Interval, SlotState
from lora_sweep.errors import LoraSweepError, TrialFailure
from lora_sweep.records import TrialConfig, TrialRecord
from lora_sweep.store import RunFolder
from lora_sweep.sweep.remote import fetch

if TYPE_CHECKING:
    from lora_sweep.config import SweepConfig
    from lora_sweep.tasks import EncodedTask

logger = logging.getLogger(__name__)

HEAD_ONLY = "head-only"


class Engine(Protocol):
    """What baselines and finalists need of an engine; all calls block."""

    def open(self, trial_id: str, config: TrialConfig, state: SlotState | None = None) -> None:
        """Give the trial a slot."""

    def run(self, trial_id: str, want_state: bool) -> Interval:
        """Train until the next evaluation."""

    def close(self, trial_id: str) -> None:
        """Free the slot."""

    def score(self, adapter: str | None, split: str, name: str, step: int) -> dict[str, float]:
        """Metrics of an adapter folder, or of the untouched base, on a split."""


class RemoteEngine:
    """An `Engine` behind an actor handle, for calls from the driver.

    Args:
        handle: of an `EngineActor`.
    """

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self._epoch = time.time_ns()

    def open(self, trial_id: str, config: TrialConfig, state: SlotState | None = None) -> None:
        fetch(self._handle.open.remote(trial_id, self._epoch, config, state))

    def run(self, trial_id: str, want_state: bool) -> Interval:
        interval: Interval = fetch(self._handle.run.remote(trial_id, self._epoch, want_state))
        return interval

    def close(self, trial_id: str) -> None:
        fetch(self._handle.close.remote(trial_id, self._epoch))

    def score(self, adapter: str | None, split: str, name: str, step: int) -> dict[str, float]:
        metrics: dict[str, float] = fetch(self._handle.score.remote(adapter, split, name, step))
        return metrics


def measure_baselines(config: SweepConfig, task: EncodedTask, run: RunFolder, engine: Engine, slots: int) -> None:
    """Measure the baselines that the task has and write RUN/analysis/baselines.json.

    Args:
        config: the sweep.
        task: its data.
        run: where the result and the head-only adapters go.
        engine: an engine with all slots free.
        slots: how many of them there are.
    """
    if task.type == "classification":
        rows = [_majority(task), *_head_only(config, task, run, engine, slots)]
    else:
        rows = [_untouched_base(engine)]
    run.write_analysis("baselines", {"rows": rows})


def head_only_configs(config: SweepConfig, train_examples: int) -> list[TrialConfig]:
    """The head-only candidates: one configuration of the space without LoRA, at up to three learning rates.

    The rates are the lowest of the space, the highest, and the geometric mean of both.
    """
    space = config.resolved_space()
    rates = [float(rate) for rate in space.possible("learning_rate")]
    low, high = min(rates), max(rates)
    base = config.trial_config(space.suggest(_First()), train_examples)
    no_lora: dict[str, Any] = {
        "target_modules": (), "target_label": HEAD_ONLY, "rank_pattern": {}, "alpha_pattern": {}
    }  # fmt: skip
    return [
        base.model_copy(update={**no_lora, "learning_rate": rate})
        for rate in sorted({low, math.sqrt(low * high), high})
    ]


class _First:
    """A chooser of first choices and middle values."""

    def categorical(self, name: str, choices: Any) -> int:
        return 0

    def uniform(self, name: str, low: float, high: float, log: bool) -> float:
        return math.sqrt(low * high) if log else (low + high) / 2

    def integer(self, name: str, low: int, high: int, step: int, log: bool) -> int:
        return low + (high - low) // (2 * step) * step


def _majority(task: EncodedTask) -> dict[str, Any]:
    from lora_sweep.tasks import majority_baseline

    metrics = {split: majority_baseline(task, split) for split in ("eval", "test")}
    return _row("majority", metrics, note="Always the most frequent class of the training data.")


def _untouched_base(engine: Engine) -> dict[str, Any]:
    started = time.monotonic()
    metrics = {split: engine.score(None, split, "base", 0) for split in ("eval", "test")}
    seconds = time.monotonic() - started
    return _row("base", metrics, device_seconds=seconds, note="The base as it is, without any training.")


def _head_only(
    config: SweepConfig, task: EncodedTask, run: RunFolder, engine: Engine, slots: int
) -> list[dict[str, Any]]:
    configs = head_only_configs(config, len(task.splits["train"]))
    with ThreadPoolExecutor(max_workers=max(1, min(slots, len(configs)))) as threads:
        names = [f"{HEAD_ONLY}-{number}" for number in range(1, len(configs) + 1)]
        ended = threads.map(lambda name, trial: _train(engine, name, trial), names, configs)
        records = [record for record in ended if record is not None]
    if not records:
        return []
    sign = 1 if config.metric.mode == "max" else -1
    best = max(records, key=lambda record: sign * record.metrics[config.metric.name])
    test = engine.score(str(run.adapter_dir(best.trial_id)), "test", best.trial_id, best.step)
    rates = ", ".join(f"{trial.learning_rate:.2g}" for trial in configs)
    return [
        _row(
            HEAD_ONLY,
            {"eval": dict(best.metrics), "test": test},
            trainable_parameters=best.trainable_parameters,
            adapter_bytes=best.adapter_bytes,
            device_seconds=best.cost.device_seconds,
            note=f"The head alone, no LoRA: the best on eval of the learning rates {rates}.",
        )
        | {"learning_rate": best.config.learning_rate, "trial_id": best.trial_id}
    ]


def _train(engine: Engine, name: str, trial: TrialConfig) -> TrialRecord | None:
    """Train to the end of the budget; None when the training fails."""
    try:
        engine.open(name, trial)
        while True:
            interval = engine.run(name, want_state=False)
            if interval.done:
                return interval.record
    except TrialFailure as error:
        logger.warning("baseline %s at learning rate %g: %s", name, trial.learning_rate, error)
        return None
    finally:
        _close_quietly(engine, name)


def _close_quietly(engine: Engine, name: str) -> None:
    try:
        engine.close(name)
    except LoraSweepError as error:
        logger.warning("closing %s: %s", name, error)


def _row(
    name: str,
    metrics: dict[str, dict[str, float]],
    *,
    trainable_parameters: int = 0,
    adapter_bytes: int = 0,
    device_seconds: float = 0.0,
    note: str,
) -> dict[str, Any]:
    return {
        "name": name,
        "metrics": metrics,
        "trainable_parameters": trainable_parameters,
        "adapter_bytes": adapter_bytes,
        "device_seconds": device_seconds,
        "note": note,
    }

"""The driver's end of every trial: its record, its slot, its checkpoints."""

from __future__ import annotations

import logging
import shutil
import time
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ray import tune

from lora_sweep.records import TrialConfig, TrialRecord
from lora_sweep.store import RunFolder
from lora_sweep.sweep.pool import Pool
from lora_sweep.sweep.progress import ProgressListener

logger = logging.getLogger(__name__)

KEEP_SECONDS = 5.0
_LIVE: ContextVar[RecordKeeper] = ContextVar("record_keeper")


class RecordKeeper(tune.Callback):  # type: ignore[misc]  # Ray ships no types
    """Writes one record for every trial that ends, frees its slot and deletes its checkpoints.

    A trial that the scheduler stops gets no call of its own when its process is reused, so its slot is released here;
    and because only the driver knows which trials live, it also tells the broker, which reaps all other leases.

    `Tuner.restore` takes callbacks out of its own pickle, where this one leaves only a reference to the live keeper.

    Args:
        run: where records go.
        pool: where the trials train; its broker is told who lives.
        listener: told of everything.
    """

    def __init__(self, run: RunFolder, pool: Pool, listener: ProgressListener) -> None:
        self._run, self._pool, self._listener = run, pool, listener
        self._ended = {record.trial_id for record in run.records() if record.status != "failed"}
        self._last_keep = time.monotonic()
        _LIVE.set(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return _live_keeper, ()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial gets a process."""
        if _id(trial) not in self._ended:
            self._listener.started(_id(trial), TrialConfig.model_validate(trial.config["trial"]))

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        """A trial reports an evaluation."""
        record = _read(trial, result["record"])
        if record.trial_id not in self._ended and record.status != "failed":
            self._listener.reported(record)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial is done, stopped, or has failed by itself."""
        text = trial.last_result.get("record")
        if text is not None:
            self._end(trial, _read(trial, text))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial's process failed for good."""
        self._end(trial, _errored(trial))

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Look after the engines, and now and then tell the broker who lives."""
        self._pool.check()
        if time.monotonic() - self._last_keep > KEEP_SECONDS:
            self._last_keep = time.monotonic()
            self._pool.broker.keep.remote([_id(trial) for trial in trials if trial.status == "RUNNING"])

    def _end(self, trial: Any, record: TrialRecord) -> None:
        record = record.model_copy(update={"repeat_of": trial.config.get("repeat_of")})
        self._pool.broker.release.remote(record.trial_id)
        if record.trial_id not in self._ended:
            self._ended.add(record.trial_id)
            self._run.append_record(record)
            self._listener.ended(record)
        for checkpoint in Path(trial.path).glob("checkpoint_*"):
            shutil.rmtree(checkpoint, ignore_errors=True)


def _live_keeper() -> RecordKeeper:
    return _LIVE.get()


def _id(trial: Any) -> str:
    return str(trial.config["trial_id"])


def _errored(trial: Any) -> TrialRecord:
    """The record of a trial whose process failed: what it last reported, and why it failed."""
    error = trial.get_pickled_error() or trial.get_error()
    cause = getattr(error, "cause", None) or error
    reason = f"{type(cause).__name__}: {cause}" if cause is not None else "the trial's process failed"
    text = (trial.last_result or {}).get("record")
    last = _failed(trial, reason) if text is None else _read(trial, text)
    return last.model_copy(update={"status": "failed", "error": reason})


def _read(trial: Any, text: str) -> TrialRecord:
    """The record that a trial reported; one that cannot be read fails its trial and not the sweep."""
    try:
        return TrialRecord.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        return _failed(trial, f"its record cannot be read: {place}: {first['msg']}")


def _failed(trial: Any, reason: str) -> TrialRecord:
    config = TrialConfig.model_validate(trial.config["trial"])
    return TrialRecord(trial_id=_id(trial), status="failed", config=config, error=reason)

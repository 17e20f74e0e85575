"""One configuration as a Ray Tune trial: leases a slot, trains one interval a step, reports. Loads without torch.

How a trial ends, and who learns what:

- its budget is spent: the last result has `done`; the record says `complete`.
- the scheduler stops it: nothing is called here (the actor is reused); the last record already says `stopped`, and the
  driver's callback frees the slot.
- it fails by itself (a NaN loss, out of memory, a target that is not there): the result has `done`, a record with
  status `failed` and its reason, and **no metric**, so that no searcher or scheduler can learn a NaN. Tune sees a
  finished trial: the process is reused and nothing is tried again.
- no engine can be had, or there is a bug: the exception goes to Tune, which restarts the trial from its last checkpoint
  (`FailureConfig.max_failures`) and then marks it as errored; resuming the sweep tries it again.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from ray import tune
from ray.exceptions import RayError

from lora_sweep.engine.api import SlotState
from lora_sweep.errors import LoraSweepError
from lora_sweep.records import TrialConfig, TrialRecord
from lora_sweep.sweep.errors import EngineLostError
from lora_sweep.sweep.objective import finite_objective
from lora_sweep.sweep.tenant import Tenant

logger = logging.getLogger(__name__)

STATE_FILE = "state.pkl"
CHECKPOINT_PREFIX = "checkpoint_"
"""Of the names that Tune gives to a trial's checkpoints; numbers follow."""


class SweepTrial(tune.Trainable):  # type: ignore[misc]  # Ray ships no types
    """The class Trainable of every sweep; its parameters come through `tune.with_parameters`."""

    _record: TrialRecord | None
    _tenant: Tenant

    def setup(
        self, config: dict[str, Any], broker: Any = None, metric: str = "", finished: Mapping[str, str] | None = None
    ) -> None:
        """Take up the first configuration.

        Args:
            config: `trial_id`, and `trial` with the fields of a `TrialConfig`.
            broker: handle of the `Broker`.
            metric: the metric to report.
            finished: records (JSON) of trials that ended before the sweep was resumed, by id.
        """
        self._broker, self._metric = broker, metric
        self._finished = dict(finished or {})
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take up another configuration in the same process."""
        self._tenant.release()
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Train one interval; see the module for how a trial ends."""
        if ended := self._finished.get(self._id):
            return self._result(TrialRecord.model_validate_json(ended), done=True)
        try:
            return self._train()
        except EngineLostError:
            raise
        except LoraSweepError as error:
            return self._failure(error)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write the state after the last interval, and the record, which a failure later on would miss."""
        with (Path(checkpoint_dir) / STATE_FILE).open("wb") as file:
            pickle.dump((self._tenant.state, self._record), file, protocol=pickle.HIGHEST_PROTOCOL)

    def restore(self, checkpoint_path: Any) -> None:
        """Go on from a checkpoint; where that is gone from the newest that can be read, or else from the start.

        Only so many are kept, and the snapshot that a killed driver leaves may be older than all of them.

        Args:
            checkpoint_path: a folder, or what Tune has for one, with a `checkpoint`.
        """
        named = Path(checkpoint_path if isinstance(checkpoint_path, str) else checkpoint_path.checkpoint.path)
        if named.exists():
            super().restore(checkpoint_path)
            return
        for folder in sorted(named.parent.glob(f"{CHECKPOINT_PREFIX}*"), reverse=True):
            with suppress(OSError, EOFError, pickle.UnpicklingError):  # it was being written
                super().restore(str(folder))
                return
        logger.warning("trial %s begins anew: none of its checkpoints is left", self._id)

    def load_checkpoint(self, checkpoint: dict[str, Any] | str | None) -> None:
        """Go on from a checkpoint of this trial, or of a donor with the same configuration."""
        assert isinstance(checkpoint, str)
        with (Path(checkpoint) / STATE_FILE).open("rb") as file:
            state, record = cast(tuple[SlotState | None, TrialRecord | None], pickle.load(file))
        self._tenant.release()
        self._tenant.state = state
        self._record = None if record is None else record.model_copy(update={"trial_id": self._id})

    def cleanup(self) -> None:
        """Give the slot back when Tune ends this process."""
        with suppress(RayError, LoraSweepError):
            self._tenant.release()

    def _begin(self, config: Mapping[str, Any]) -> None:
        self._id = str(config["trial_id"])
        self._config = TrialConfig.model_validate(config["trial"])
        self._record = None
        self._tenant = Tenant(self._broker, self._id, self._config)

    def _train(self) -> dict[str, Any]:
        state = self._tenant.state
        next_step = next(step for step in self._config.evaluations() if state is None or step > state.step)
        interval = self._tenant.run(want_state=next_step < self._config.steps)
        self._record = interval.record
        finite_objective(interval.record, self._metric)
        if interval.done:
            self._tenant.release()
        return self._result(interval.record, interval.done)

    def _result(self, record: TrialRecord, done: bool) -> dict[str, Any]:
        return {
            self._metric: record.metrics[self._metric],
            "training_iteration": max(1, sum(point.step > 0 for point in record.history)),
            "record": record.model_dump_json(),
            "status": record.status,
            "done": done,
        }

    def _failure(self, error: LoraSweepError) -> dict[str, Any]:
        self._tenant.release()
        last = self._record or TrialRecord(trial_id=self._id, status="failed", config=self._config)
        record = last.model_copy(update={"status": "failed", "error": f"{type(error).__name__}: {error}"})
        return {"record": record.model_dump_json(), "status": "failed", "done": True}

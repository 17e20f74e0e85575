"""A trial's side of a lease: trains on whatever engine the broker gives, and outlives that engine."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from lora_sweep.engine.api import Interval, SlotState
from lora_sweep.errors import LoraSweepError
from lora_sweep.records import TrialConfig
from lora_sweep.sweep.errors import ACTOR_LOST, EngineLostError, StaleLeaseError
from lora_sweep.sweep.remote import fetch

logger = logging.getLogger(__name__)

ATTEMPTS = 5
"""Engines that may be lost in one interval before the trial gives up."""
BROKER_ATTEMPTS = 60
PAUSE_SECONDS = 1.0


class Tenant:
    """One trial on the engines.

    Args:
        broker: handle of the `Broker`.
        trial_id: the trial.
        config: what to train.

    Attributes:
        state: where to go on from; the state after the last interval, or what a checkpoint held.
    """

    def __init__(self, broker: Any, trial_id: str, config: TrialConfig) -> None:
        self._broker = broker
        self._trial_id = trial_id
        self._config = config
        self._engine: Any = None
        self._epoch = 0
        self.state: SlotState | None = None

    def run(self, want_state: bool) -> Interval:
        """Train until the next evaluation, on a new engine if this one is lost.

        Raises:
            EngineLostError: no engine is left, or five were lost in this interval.
            TrialFailure: the trial itself failed; its slot is free again.
        """
        for _ in range(ATTEMPTS):
            try:
                interval = self._run_once(want_state)
            except (*ACTOR_LOST, StaleLeaseError) as error:
                logger.warning("trial %s lost its engine: %s", self._trial_id, type(error).__name__)
                self._give_up_engine()
            except LoraSweepError:
                self.release()
                raise
            else:
                self.state = interval.state or self.state
                return interval
        raise EngineLostError(f"trial {self._trial_id}: its engine was lost {ATTEMPTS} times in one interval")

    def release(self) -> None:
        """Give the slot back; nothing when none is held."""
        if self._engine is not None:
            self._engine = None
            self._ask(lambda: self._broker.release.remote(self._trial_id, self._epoch))

    def _run_once(self, want_state: bool) -> Interval:
        if self._engine is None:
            engine, self._epoch = self._ask(lambda: self._broker.acquire.remote(self._trial_id))
            self._engine = engine
            fetch(engine.open.remote(self._trial_id, self._epoch, self._config, self.state))
        interval: Interval = fetch(self._engine.run.remote(self._trial_id, self._epoch, want_state))
        return interval

    def _give_up_engine(self) -> None:
        self._engine = None
        self._ask(lambda: self._broker.lost.remote(self._trial_id, self._epoch))
        time.sleep(PAUSE_SECONDS)

    def _ask(self, call: Callable[[], Any]) -> Any:
        """Call the broker, which may be on its way back from a crash."""
        for _ in range(BROKER_ATTEMPTS):
            try:
                return fetch(call())
            except ACTOR_LOST:
                time.sleep(PAUSE_SECONDS)
        raise EngineLostError(f"trial {self._trial_id}: the broker does not answer")

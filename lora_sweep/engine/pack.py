"""The trials on an engine: those that are asked for step together, and each gets its share of the time and its answer.

Single-threaded; `service` puts a thread around it.
"""

from __future__ import annotations

import logging
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass

import torch

from lora_sweep.engine.api import Interval, SlotState
from lora_sweep.engine.engine import Engine
from lora_sweep.engine.memory import as_out_of_memory
from lora_sweep.engine.report import Reporter
from lora_sweep.engine.slot import Slot
from lora_sweep.errors import LoraSweepError, NonFiniteLossError, OutOfMemoryError, TrialFailure
from lora_sweep.records import TrialConfig
from lora_sweep.store import RunFolder

_logger = logging.getLogger(__name__)

_WARM_STEPS = 2  # an engine's second step is slow too
_PROBED_STEPS = (1, 2)  # timed alone, to know what a trial costs by itself; step 0 pays for what is new with the trial


@dataclass
class _Request:
    due: int
    want_state: bool
    future: Future[Interval]


class Pack:
    """The open trials of an engine and the evaluations that they were asked for.

    Args:
        engine: with no trial open.
        run: where adapters and outcomes of kept evaluations are written; None to write nothing.
    """

    def __init__(self, engine: Engine, run: RunFolder | None) -> None:
        self._engine = engine
        self._reporter = Reporter(engine, run)
        self._slots: dict[str, Slot] = {}
        self._requests: dict[str, _Request] = {}

    @property
    def open_trials(self) -> tuple[str, ...]:
        """Ids of the trials that hold a slot."""
        return tuple(self._slots)

    @property
    def has_requests(self) -> bool:
        """Whether any trial is asked for."""
        return bool(self._requests)

    @property
    def is_whole(self) -> bool:
        """Whether every open trial is asked for."""
        return len(self._requests) == len(self._slots)

    @property
    def is_full(self) -> bool:
        """Whether every slot is taken."""
        return len(self._slots) == self._engine.options.slots

    def warm_up(self, config: TrialConfig) -> None:
        """Take steps of a trial that is thrown away, so that no trial pays for an engine's first ones.

        What fails here fails in a trial's own step or report again, where it is told.
        """
        engine = self._engine
        counts = engine.steps, engine.trial_steps, engine.tokens, engine.padded_tokens
        with suppress(Exception):
            slot = engine.open("warm-up", config)
            try:
                for _ in range(min(_WARM_STEPS, config.steps)):
                    engine.train_step([slot])
            finally:
                engine.close(slot)
            self._reporter.rehearse()
        engine.steps, engine.trial_steps, engine.tokens, engine.padded_tokens = counts
        self._settle()

    def open(self, trial_id: str, config: TrialConfig, state: SlotState | None) -> None:
        """Give a trial a slot; a slot that it holds already is given up first. For errors see `Engine.open`."""
        self.close(trial_id)
        self._slots[trial_id] = slot = self._engine.open(trial_id, config, state)
        self._reporter.reconcile(slot)

    def request(self, trial_id: str, want_state: bool, future: Future[Interval]) -> None:
        """Ask for a trial's next evaluation; the answer, or a TrialFailure, goes into `future`."""
        slot = self._slots.get(trial_id)
        if slot is None:
            future.set_exception(TrialFailure(f"trial {trial_id} holds no slot"))
        elif slot.done:
            future.set_exception(TrialFailure(f"trial {trial_id} has spent its budget"))
        else:
            self._requests[trial_id] = _Request(slot.next_evaluation(), want_state, future)

    def close(self, trial_id: str) -> None:
        """Free the trial's slot, if it holds one; its request fails."""
        if (request := self._requests.pop(trial_id, None)) is not None:
            request.future.set_exception(TrialFailure(f"trial {trial_id} was closed"))
        if (slot := self._slots.pop(trial_id, None)) is not None:
            self._engine.close(slot)

    def advance(self) -> bool:
        """One step of every trial that is asked for, then the evaluations that are due.

        Returns:
            Whether any trial got its answer.
        """
        try:
            self._step([self._slots[trial_id] for trial_id in self._requests])
            due = [self._slots[t] for t, request in self._requests.items() if self._slots[t].step >= request.due]
            if due:
                self._report(due)
        except BaseException as error:  # a fault of the engine ends what it was doing, never the thread
            for trial_id in list(self._requests):
                self._fail(trial_id, error)
            return False
        return bool(due)

    def _fail(self, trial_id: str, error: BaseException) -> None:
        request = self._requests.pop(trial_id)
        self.close(trial_id)
        request.future.set_exception(error)

    # Steps -----------------------------------------------------------------------------------------------------

    def _step(self, slots: list[Slot]) -> None:
        alone = [slot for slot in slots if slot.step in _PROBED_STEPS]
        for slot in alone:
            self._probe(slot)
        together = [slot for slot in slots if slot not in alone]
        if together:
            self._train(together)

    def _train(self, slots: list[Slot]) -> None:
        before = [slot.step for slot in slots]
        try:
            with as_out_of_memory("a training step"):
                failed = self._engine.train_step(slots)
        except Exception as error:
            if len(slots) == 1:
                self._fail(slots[0].trial_id, _as_failure(error))
                return
            # one of them is at fault: alone, each fails or steps by itself
            for slot, step in zip(slots, before, strict=True):
                if slot.step == step:
                    self._train([slot])
            return
        for slot, reason in failed:
            self._fail(slot.trial_id, reason)

    def _probe(self, slot: Slot) -> None:
        self._settle()
        before = slot.padded_tokens
        self._train([slot])
        seconds = self._settle()
        slot.probes.append(seconds / max(1, slot.padded_tokens - before))

    def _settle(self, evaluating: bool = False) -> float:
        def credit(trial_id: str, seconds: float) -> None:
            slot = self._slots.get(trial_id)
            if slot is not None:
                slot.device_seconds += seconds
                slot.evaluation_seconds += seconds if evaluating else 0.0

        return self._engine.meter.settle(credit)

    # Evaluations -----------------------------------------------------------------------------------------------

    def _report(self, due: list[Slot]) -> None:
        """Evaluate the trials that are due, keep what is to be kept, and answer their requests."""
        self._settle()
        due = self._only_finite(due)
        if not due:
            return
        try:
            scores = self._engine.evaluate(due, "eval")
        except OutOfMemoryError as error:
            if len(due) == 1:
                self._fail(due[0].trial_id, error)
                return
            for slot in due:  # who fits alone goes on
                self._report([slot])
            return
        self._settle(evaluating=True)
        for slot, scored in zip(due, scores, strict=True):
            try:
                self._reporter.note(slot, scored)
            except TrialFailure as error:
                self._fail(slot.trial_id, error)
                continue
            request = self._requests.pop(slot.trial_id)
            state = slot.state() if request.want_state else None
            request.future.set_result(Interval(self._reporter.record(slot), slot.done, state))

    def _only_finite(self, slots: list[Slot]) -> list[Slot]:
        finite = []
        for slot in slots:
            if not slot.losses:  # looked at already
                finite.append(slot)
                continue
            losses = torch.stack(slot.losses).cpu()
            bad = (~losses.isfinite()).nonzero()
            if len(bad):
                step = slot.step - len(losses) + int(bad[0]) + 1
                value = float(losses[int(bad[0])])
                self._fail(slot.trial_id, NonFiniteLossError(f"the training loss became {value} at step {step}"))
            else:
                slot.loss_sum += float(losses.double().sum())
                slot.losses.clear()
                finite.append(slot)
        return finite


def _as_failure(error: Exception) -> LoraSweepError:
    if isinstance(error, LoraSweepError):
        return error
    _logger.exception("a training step failed")
    return TrialFailure(f"{type(error).__name__}: {error}")

"""An engine that many threads use at once.

One thread owns the engine. Callers hand it work and wait: `run` asks for a trial's next evaluation, and whatever trials
are asked for at the same time train together, step by step; trials come and go between two steps.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch

from lora_sweep.engine.allocator import keep_freed_memory
from lora_sweep.engine.api import EngineInfo, EngineOptions, Interval, SlotState
from lora_sweep.engine.engine import Engine, Scores
from lora_sweep.engine.memory import as_out_of_memory, peak_bytes
from lora_sweep.engine.report import Reporter, metrics_of
from lora_sweep.engine.slot import Slot
from lora_sweep.errors import LoraSweepError, NonFiniteLossError, OutOfMemoryError, TrialFailure
from lora_sweep.models import load_base
from lora_sweep.records import TrialConfig
from lora_sweep.store import RunFolder
from lora_sweep.tasks import EncodedTask, outcomes_frame

if TYPE_CHECKING:
    from lora_sweep.config import ModelConfig

T = TypeVar("T")

_logger = logging.getLogger(__name__)

_LINGER_SECONDS = 0.05  # after a report, wait this long for its trial's next request before stepping without it
_PROBED_STEPS = (1, 2)  # timed alone, to know what a trial costs by itself; step 0 pays for warming up


@dataclass
class _Request:
    due: int
    want_state: bool
    future: Future[Interval]


class EngineService:
    """Thread-safe front of an engine.

    Args:
        engine: owned by this service from now on.
        run: where adapters and outcomes of kept evaluations are written; None to write nothing.
    """

    def __init__(self, engine: Engine, run: RunFolder | None) -> None:
        self._engine, self._run = engine, run
        self._reporter = Reporter(engine, run)
        self._slots: dict[str, Slot] = {}
        self._requests: dict[str, _Request] = {}
        self._calls: list[Callable[[], None]] = []
        self._changed = threading.Condition()
        self._stopping = False
        self._linger_until = 0.0
        self._thread = threading.Thread(target=self._loop, name="engine", daemon=True)
        self._thread.start()

    def open(self, trial_id: str, config: TrialConfig, state: SlotState | None = None) -> None:
        """Give a trial a slot; a slot that it holds already is given up first.

        Raises:
            AdapterStateError: every slot is taken.
            InputError: the configuration does not fit the base or the state.
            OutOfMemoryError: the adapter does not fit.
        """

        def work() -> None:
            self._close(trial_id)
            self._slots[trial_id] = slot = self._engine.open(trial_id, config, state)
            self._reporter.reconcile(slot)

        self._call(work)

    def run(self, trial_id: str, want_state: bool) -> Interval:
        """Train a trial until its next evaluation.

        Raises:
            TrialFailure: its loss is not finite, it does not fit the memory, or it was closed; its slot is free.
        """
        future: Future[Interval] = Future()

        def work() -> None:
            slot = self._slots.get(trial_id)
            if slot is None:
                future.set_exception(TrialFailure(f"trial {trial_id} holds no slot"))
            elif slot.done:
                future.set_exception(TrialFailure(f"trial {trial_id} has spent its budget"))
            else:
                self._requests[trial_id] = _Request(slot.next_evaluation(), want_state, future)

        self._call(work)
        return future.result()

    def close(self, trial_id: str) -> None:
        """Free the trial's slot, if it holds one; a `run` in progress ends with TrialFailure."""
        self._call(lambda: self._close(trial_id))

    def score(self, adapter: Path | None, split: str, name: str, step: int = 0) -> dict[str, float]:
        """Metrics of an adapter folder, or of the untouched base, on a split.

        Args:
            adapter: a folder in PEFT's format; None for the untouched base.
            split: `eval` or `test`.
            name: whose outcomes these are in the run folder.
            step: the training step that the adapter comes from.

        Raises:
            AdapterFormatError: the folder is no adapter for this base.
        """

        def work() -> dict[str, float]:
            scores = self._engine.score(adapter, split)
            self._engine.meter.settle(lambda *_: None)
            self._write_outcomes(name, split, step, scores)
            return metrics_of(self._engine.task, split, scores)

        return self._call(work)

    def info(self) -> EngineInfo:
        """What the engine is and has done. Never waits for a step to end."""
        engine, device = self._engine, self._engine.base.device
        threads = torch.get_num_threads()
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu ({threads} threads)"
        return EngineInfo(
            device=name,
            dtype=str(engine.base.dtype).removeprefix("torch."),
            slots=engine.options.slots,
            threads=threads,
            base_parameters=engine.parameters,
            busy_seconds=engine.meter.busy_seconds,
            peak_memory_bytes=peak_bytes(device),
            steps=engine.steps,
            trial_steps=engine.trial_steps,
            tokens=engine.tokens,
            padded_tokens=engine.padded_tokens,
            open_trials=tuple(self._slots),
        )

    def shutdown(self) -> None:
        """Stop the thread; waiting callers get TrialFailure."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join()

    # The engine's thread ---------------------------------------------------------------------------------------

    def _call(self, work: Callable[[], T]) -> T:
        """Let the engine's thread do something between two steps, and wait for it."""
        future: Future[T] = Future()

        def call() -> None:
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)

        with self._changed:
            if self._stopping:
                raise TrialFailure("the engine is shut down")
            self._calls.append(call)
            self._changed.notify_all()
        return future.result()

    def _loop(self) -> None:
        while self._wait():
            for call in self._taken_calls():
                call()
            self._linger()
            if self._requests and not self._calls:
                self._advance()
        for trial_id in list(self._slots):
            self._close(trial_id)
        for call in self._taken_calls():
            call()

    def _wait(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._calls or self._requests or self._stopping)
            return not self._stopping

    def _taken_calls(self) -> list[Callable[[], None]]:
        with self._changed:
            calls, self._calls = self._calls, []
        return calls

    def _linger(self) -> None:
        # trials that have just reported come back within milliseconds: one pack is cheaper than two
        with self._changed:
            while self._requests and len(self._requests) < len(self._slots) and not self._calls:
                left = self._linger_until - time.monotonic()
                if left <= 0 or self._stopping:
                    return
                self._changed.wait(left)

    def _close(self, trial_id: str) -> None:
        if (request := self._requests.pop(trial_id, None)) is not None:
            request.future.set_exception(TrialFailure(f"trial {trial_id} was closed"))
        if (slot := self._slots.pop(trial_id, None)) is not None:
            self._engine.close(slot)

    def _fail(self, trial_id: str, error: BaseException) -> None:
        request = self._requests.pop(trial_id)
        self._close(trial_id)
        request.future.set_exception(error)

    def _advance(self) -> None:
        """One step of every trial that is asked for, then the evaluations that are due."""
        try:
            self._step([self._slots[trial_id] for trial_id in self._requests])
            due = [self._slots[t] for t, request in self._requests.items() if self._slots[t].step >= request.due]
            if due:
                self._report(due)
        except BaseException as error:  # a fault of the engine ends what it was doing, never the thread
            for trial_id in list(self._requests):
                self._fail(trial_id, error)

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
        self._linger_until = time.monotonic() + _LINGER_SECONDS

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

    def _write_outcomes(self, name: str, split: str, step: int, scores: Scores) -> None:
        if self._run is not None:
            part = self._engine.task.splits[split]
            frame = outcomes_frame(part, step, logits=scores.logits, nll_sum=scores.nll_sum, tokens=scores.targets)
            self._run.write_outcomes(name, frame)


def _as_failure(error: Exception) -> LoraSweepError:
    if isinstance(error, LoraSweepError):
        return error
    _logger.exception("a training step failed")
    return TrialFailure(f"{type(error).__name__}: {error}")


def build_service(
    model: ModelConfig, task: EncodedTask, options: EngineOptions, run: RunFolder | None
) -> EngineService:
    """Load the base onto this process's device and serve it.

    Raises:
        ModelError: the base cannot be loaded or does not fit.
    """
    if options.device == "cpu":
        torch.set_num_threads(options.threads)
        keep_freed_memory()
    base = load_base(model, task.type, task.labels, options.device)
    return EngineService(Engine(base, task, options), run)

"""An engine that many threads use at once.

One thread makes the engine and owns it. Callers hand it work and wait: `run` asks for a trial's next evaluation, and
whatever trials are asked for at the same time train together, step by step; trials come and go between two steps.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch

from lora_sweep.engine.allocator import keep_freed_memory
from lora_sweep.engine.api import EngineInfo, EngineOptions, Interval, SlotState
from lora_sweep.engine.engine import Engine
from lora_sweep.engine.memory import peak_bytes
from lora_sweep.engine.pack import Pack
from lora_sweep.engine.report import metrics_of
from lora_sweep.engine.scores import Scores
from lora_sweep.errors import TrialFailure
from lora_sweep.models import load_base
from lora_sweep.records import TrialConfig
from lora_sweep.store import RunFolder
from lora_sweep.tasks import EncodedTask, outcomes_frame

if TYPE_CHECKING:
    from lora_sweep.config import ModelConfig

T = TypeVar("T")

_LINGER_SECONDS = 0.1
"""Trials that have reported together come back, and such as start together come, within milliseconds: for so long the
engine waits for them, because one pack is cheaper than two and they would never meet again."""


class EngineService:
    """Thread-safe front of an engine.

    Args:
        make: makes the engine. It is called on the service's own thread: where two threads of a process have computed
            with as many cores as there are, OpenMP lets their helpers sleep between two operations.
        run: where adapters and outcomes of kept evaluations are written; None to write nothing.
        warm_up: what to train for two steps that are thrown away, so that no trial pays for an engine's first ones.

    Raises:
        Exception: whatever `make` raises.
    """

    def __init__(self, make: Callable[[], Engine], run: RunFolder | None, warm_up: TrialConfig | None = None) -> None:
        self._run = run
        self._calls: list[Callable[[], None]] = []
        self._changed = threading.Condition()
        self._stopping = False
        self._returning_until = self._joining_until = 0.0
        made: Future[Engine] = Future()
        self._thread = threading.Thread(target=self._work, args=(make, made, warm_up), name="engine", daemon=True)
        self._thread.start()
        try:
            self._engine = made.result()
        except BaseException:  # an interruption, perhaps, while the engine is still being made
            self._stopping = True
            raise

    def open(self, trial_id: str, config: TrialConfig, state: SlotState | None = None) -> None:
        """Give a trial a slot; a slot that it holds already is given up first.

        Raises:
            AdapterStateError: every slot is taken.
            InputError: the configuration does not fit the base or the state.
            OutOfMemoryError: the adapter does not fit.
        """

        def work() -> None:
            self._pack.open(trial_id, config, state)
            self._returning_until = time.monotonic() + _LINGER_SECONDS
            self._joining_until = 0.0 if self._pack.is_full else self._returning_until

        self._call(work)

    def run(self, trial_id: str, want_state: bool) -> Interval:
        """Train a trial until its next evaluation.

        Raises:
            TrialFailure: its loss is not finite, it does not fit the memory, or it was closed; its slot is free.
        """
        future: Future[Interval] = Future()
        self._call(lambda: self._pack.request(trial_id, want_state, future))
        return future.result()

    def close(self, trial_id: str) -> None:
        """Free the trial's slot, if it holds one; a `run` in progress ends with TrialFailure."""
        self._call(lambda: self._pack.close(trial_id))

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
        threads = engine.options.threads
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
            open_trials=self._pack.open_trials,
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

    def _work(self, make: Callable[[], Engine], made: Future[Engine], warm_up: TrialConfig | None) -> None:
        try:
            engine = make()
            self._pack = Pack(engine, self._run)
        except BaseException as error:
            made.set_exception(error)
            return
        made.set_result(engine)
        if warm_up is not None:
            self._pack.warm_up(warm_up)
        self._loop()

    def _loop(self) -> None:
        while self._wait():
            for call in self._taken_calls():
                call()
            self._linger()
            if self._pack.has_requests and not self._calls and self._pack.advance():
                self._returning_until = time.monotonic() + _LINGER_SECONDS
        for trial_id in self._pack.open_trials:
            self._pack.close(trial_id)
        for call in self._taken_calls():
            call()

    def _wait(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._calls or self._pack.has_requests or self._stopping)
            return not self._stopping

    def _taken_calls(self) -> list[Callable[[], None]]:
        with self._changed:
            calls, self._calls = self._calls, []
        return calls

    def _linger(self) -> None:
        with self._changed:
            while self._pack.has_requests and not self._calls:
                until = max(self._joining_until, 0.0 if self._pack.is_whole else self._returning_until)
                left = until - time.monotonic()
                if left <= 0 or self._stopping:
                    return
                self._changed.wait(left)

    def _write_outcomes(self, name: str, split: str, step: int, scores: Scores) -> None:
        if self._run is not None:
            part = self._engine.task.splits[split]
            frame = outcomes_frame(part, step, logits=scores.logits, nll_sum=scores.nll_sum, tokens=scores.targets)
            self._run.write_outcomes(name, frame)


def build_service(
    model: ModelConfig, task: EncodedTask, options: EngineOptions, run: RunFolder | None, warm_up: TrialConfig
) -> EngineService:
    """Load the base onto this process's device and serve it; see `EngineService`.

    Raises:
        ModelError: the base cannot be loaded or does not fit.
    """
    if options.device == "cpu":
        keep_freed_memory()  # before there is another thread, which would have memory of its own

    def make() -> Engine:
        if options.device == "cpu":
            torch.set_num_threads(options.threads)
        return Engine(load_base(model, task.type, task.labels, options.device), task, options)

    return EngineService(make, run, warm_up)

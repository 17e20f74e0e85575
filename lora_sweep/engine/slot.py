"""One adapter's place on an engine: its weights, optimizer, data order and counters."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from lora_sweep.adapters import AdapterWeights, DropoutStream, stream_key
from lora_sweep.engine.api import SlotState
from lora_sweep.engine.optimizer import MOMENTS
from lora_sweep.engine.order import DataOrder
from lora_sweep.errors import InputError
from lora_sweep.records import EvalPoint, TrialConfig


@dataclass
class Slot:
    """A trial on an engine.

    Attributes:
        number: the slot's number in the adapted model.
        trial_id: who holds it.
        weights: what it trains.
        order: its data order.
        step: optimizer steps done.
        losses: training losses since the last evaluation, on the device.
        tokens: valid training tokens so far; `padded_tokens` counts its rows' padding too, where passes keep it.
        history: evaluations so far; `kept` is the index of the kept one.
        wall_seconds: time with a slot before this visit, which began at `opened_at` on the monotonic clock.
        device_seconds: attributed so far; `evaluation_seconds` is the part of it that evaluations took.
        probes: seconds per padded token of training steps timed alone.
    """

    number: int
    trial_id: str
    config: TrialConfig
    weights: AdapterWeights
    order: DataOrder
    step: int = 0
    losses: list[Tensor] = field(default_factory=list)
    loss_sum: float = 0.0
    tokens: int = 0
    padded_tokens: int = 0
    history: list[EvalPoint] = field(default_factory=list)
    kept: int | None = None
    wall_seconds: float = 0.0
    opened_at: float = field(default_factory=time.monotonic)
    device_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    probes: list[float] = field(default_factory=list)

    def next_evaluation(self) -> int:
        """The step after which the next evaluation is due."""
        return next(step for step in self.config.evaluations() if step > self.step)

    @property
    def done(self) -> bool:
        return self.step >= self.config.steps

    @property
    def elapsed_seconds(self) -> float:
        """Wall time with a slot, all visits together."""
        return self.wall_seconds + time.monotonic() - self.opened_at

    def dropout(self, rows: np.ndarray) -> DropoutStream:
        """The masks of these rows (numbers within the step's batch, int64 [b]) at the present step."""
        return DropoutStream(stream_key(self.config.seed, self.step), rows)

    def state(self) -> SlotState:
        """All that is needed to go on elsewhere."""
        names = MOMENTS[self.config.optimizer] if self.step else ()
        return SlotState(
            fingerprint=self.config.fingerprint(),
            step=self.step,
            weights=self._flat(self.weights.bank.vector),
            moments={name: self._flat(self.weights.bank.extra(name)) for name in names},
            history=tuple(self.history),
            kept=self.kept,
            loss_sum=self.loss_sum,
            tokens=self.tokens,
            padded_tokens=self.padded_tokens,
            wall_seconds=self.elapsed_seconds,
            device_seconds=self.device_seconds,
            evaluation_seconds=self.evaluation_seconds,
            probe_seconds=tuple(self.probes),
        )

    @torch.no_grad()
    def restore(self, state: SlotState) -> None:
        """Go on from a state.

        Raises:
            InputError: it is another configuration's.
        """
        if state.fingerprint != self.config.fingerprint():
            raise InputError(f"trial {self.trial_id}", "a state must come from the same configuration")
        self.weights.fill(self.weights.bank.vector, torch.from_numpy(state.weights.copy()))
        self.weights.refresh()
        for name, values in state.moments.items():
            self.weights.fill(self.weights.bank.extra(name), torch.from_numpy(values.copy()))
        self.step, self.history, self.kept = state.step, list(state.history), state.kept
        self.loss_sum, self.tokens, self.padded_tokens = state.loss_sum, state.tokens, state.padded_tokens
        self.wall_seconds, self.device_seconds = state.wall_seconds, state.device_seconds
        self.evaluation_seconds, self.probes = state.evaluation_seconds, list(state.probe_seconds)

    def _flat(self, tensor: Tensor) -> np.ndarray:
        return self.weights.flat(tensor).numpy()

"""One adapter's place on an engine: its weights, optimizer, data order and counters."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from lora_sweep.adapters import AdapterWeights, DropoutStream, stream_key
from lora_sweep.engine.api import SlotState
from lora_sweep.engine.order import DataOrder
from lora_sweep.engine.schedule import learning_rate_at
from lora_sweep.errors import InputError
from lora_sweep.records import EvalPoint, TrialConfig

_MOMENTS = {"adamw": ("exp_avg", "exp_avg_sq"), "sgd": ()}


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
        tokens: valid training tokens so far; `padded_tokens` counts the padding too.
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

    def __post_init__(self) -> None:
        self._flat = torch.nn.Parameter(self.weights.vector)
        self._flat.grad = self.weights.gradient
        self._optimizer = _make_optimizer(self.config, self._flat)

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

    def zero_gradient(self) -> None:
        self.weights.gradient.zero_()

    @torch.no_grad()
    def optimizer_step(self) -> None:
        """Clip by the norm of the whole gradient, as `torch.nn.utils.clip_grad_norm_` does, and update."""
        gradient = self.weights.gradient
        if self.config.clip is not None:
            gradient.mul_(torch.clamp(self.config.clip / (gradient.norm() + 1e-6), max=1.0))
        self._optimizer.param_groups[0]["lr"] = learning_rate_at(self.config, self.step)
        self._optimizer.step()
        self.weights.refresh()
        self.step += 1

    def state(self) -> SlotState:
        """All that is needed to go on elsewhere."""
        moments = self._optimizer.state.get(self._flat, {})
        return SlotState(
            fingerprint=self.config.fingerprint(),
            step=self.step,
            weights=_numpy(self.weights.vector),
            moments={name: _numpy(moments[name]) for name in _MOMENTS[self.config.optimizer] if name in moments},
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
        self.weights.vector.copy_(torch.from_numpy(state.weights.copy()))
        self.weights.refresh()
        if state.moments:
            moments = {
                name: torch.from_numpy(value.copy()).to(self._flat.device) for name, value in state.moments.items()
            }
            self._optimizer.state[self._flat] = {"step": torch.tensor(float(state.step)), **moments}
        self.step, self.history, self.kept = state.step, list(state.history), state.kept
        self.loss_sum, self.tokens, self.padded_tokens = state.loss_sum, state.tokens, state.padded_tokens
        self.wall_seconds, self.device_seconds = state.wall_seconds, state.device_seconds
        self.evaluation_seconds, self.probes = state.evaluation_seconds, list(state.probe_seconds)


def _make_optimizer(config: TrialConfig, parameter: torch.nn.Parameter) -> torch.optim.Optimizer:
    if config.optimizer == "sgd":
        return torch.optim.SGD([parameter], lr=config.learning_rate, weight_decay=config.weight_decay)
    return torch.optim.AdamW(
        [parameter], lr=config.learning_rate, betas=(0.9, 0.999), eps=1e-8, weight_decay=config.weight_decay
    )


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().to("cpu", copy=True).numpy()

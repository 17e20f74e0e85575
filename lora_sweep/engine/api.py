"""What passes between an engine and those who use it. Loads without torch, so that light processes can import it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from lora_sweep.records import EvalPoint, TrialRecord


@dataclass(frozen=True)
class EngineOptions:
    """How an engine works.

    Attributes:
        device: `cpu` or `cuda`.
        slots: how many adapters may be resident at once.
        threads: torch threads on a CPU.
        metric: the metric that decides which evaluation of a trial is kept.
        mode: whether a larger (`max`) or a smaller (`min`) value is better.
        keep: keep each trial's `best` or its `last` evaluation.
        tokens_per_pass: most padded tokens in one forward pass; bounds the activations' memory whatever the pack.
        base_dropout: whether the base's own hidden dropout stays on while it is frozen.
        activation_checkpointing: whether blocks compute their activations again in backward instead of keeping them.
        cuda_graphs: whether passes that come again are recorded and replayed; on a GPU only.
    """

    device: str
    slots: int
    threads: int
    metric: str
    mode: Literal["min", "max"]
    keep: Literal["best", "last"] = "best"
    tokens_per_pass: int = 16_384
    base_dropout: bool = False
    activation_checkpointing: bool = False
    cuda_graphs: bool = True


@dataclass(frozen=True)
class SlotState:
    """All that a trial needs to go on elsewhere as if nothing had happened.

    Attributes:
        fingerprint: of the trial's configuration; a state is refused by any other.
        step: optimizer steps done.
        weights: fp32 vector of everything that trains, in the slot's order.
        moments: the optimizer's vectors, by name, each of the shape of `weights`.
        history: the evaluations so far.
        kept: index in `history` of the kept evaluation; None before the first.
        loss_sum: training loss summed over the steps since the last evaluation.
        tokens: valid training tokens so far; `padded_tokens` with padding.
        wall_seconds: time with a slot so far.
        device_seconds: attributed time so far; `evaluation_seconds` is the part of it that evaluations took.
        probe_seconds: seconds per padded token of steps timed alone.
    """

    fingerprint: str
    step: int
    weights: np.ndarray
    moments: dict[str, np.ndarray]
    history: tuple[EvalPoint, ...]
    kept: int | None
    loss_sum: float
    tokens: int
    padded_tokens: int
    wall_seconds: float
    device_seconds: float
    evaluation_seconds: float
    probe_seconds: tuple[float, ...]


@dataclass(frozen=True)
class Interval:
    """What one report interval of a trial brought.

    Attributes:
        record: the trial's record as of now, with status `complete` when its budget is spent, else `stopped`.
        done: whether the budget is spent.
        state: the state right after the interval's evaluation, when it was asked for.
    """

    record: TrialRecord
    done: bool
    state: SlotState | None


@dataclass(frozen=True)
class EngineInfo:
    """What an engine is and what it has done.

    Attributes:
        device: human-readable, e.g. `cpu (2 threads)` or `NVIDIA H100 80GB HBM3`.
        dtype: of the base, e.g. `bfloat16`.
        slots: how many adapters may be resident at once.
        threads: torch threads on a CPU.
        base_parameters: of the base, its head included.
        busy_seconds: time spent training and evaluating; the trials' `device_seconds` add up to it, but for
            warming up and the scoring of adapter folders, which belong to no trial.
        peak_memory_bytes: the process's (CPU) or the device's (GPU) peak.
        steps: packed training steps; `trial_steps` counts each trial's own.
        tokens: valid training tokens; `padded_tokens` with padding.
        open_trials: ids of the trials that hold a slot.
    """

    device: str
    dtype: str
    slots: int
    threads: int
    base_parameters: int
    busy_seconds: float
    peak_memory_bytes: int
    steps: int
    trial_steps: int
    tokens: int
    padded_tokens: int
    open_trials: tuple[str, ...]

"""What a sweep tries and what comes of it: the records that pass between packages and into files.

`TrialConfig` is one candidate, `AdapterSpec` the part of it that says what to inject, `EvalPoint` one
evaluation and `TrialRecord` the whole outcome of a trial. All are frozen pydantic models, so that a
line of `trials.jsonl` is `record.model_dump_json()` and reads back with `model_validate_json`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = 1

Split = Literal["train", "eval", "test"]
Status = Literal["complete", "stopped", "failed"]
Optimizer = Literal["adamw", "sgd"]
Schedule = Literal["linear", "cosine", "constant"]
Bias = Literal["none", "lora_only"]

_LATER = ("bias",)
"""Fields of a configuration that its first version did not have."""

TargetModules = str | tuple[str, ...]
"""A group (`attention-qv`, ..., `all-linear`), a module name, a regular expression over full names, or several."""

PositiveInt = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Record(BaseModel):
    """Base of all records: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class AdapterSpec(Record):
    """What to inject into the base: `h = W0 x + (alpha / rank) B A dropout(x)` (arXiv 2106.09685).

    Attributes:
        rank: rows of A and columns of B, at least 1, at most the smaller side of each adapted layer.
        alpha: scaling numerator, above 0; the update is multiplied by `alpha / rank`.
        dropout: probability in [0, 1) that an element of the adapter's input is zeroed.
        bias: `lora_only` trains the adapted layers' own biases too, where they have one; `none` leaves them frozen.
        target_modules: which linear layers; empty for no LoRA at all (the head alone is trained).
        rank_pattern: full module name to rank, over `rank`.
        alpha_pattern: full module name to alpha, over `alpha`.
    """

    rank: PositiveInt = 16
    alpha: PositiveFloat = 32.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    bias: Bias = "none"
    target_modules: TargetModules = "all-linear"
    rank_pattern: Mapping[str, PositiveInt] = Field(default_factory=dict)
    alpha_pattern: Mapping[str, PositiveFloat] = Field(default_factory=dict)

    def rank_of(self, module: str) -> int:
        """The rank at the module with this full name."""
        return self.rank_pattern.get(module, self.rank)

    def scaling_of(self, module: str) -> float:
        """`alpha / rank` at the module with this full name."""
        return self.alpha_pattern.get(module, self.alpha) / self.rank_of(module)


class TrialConfig(AdapterSpec):
    """One candidate: an adapter and how to train it.

    Attributes:
        target_label: the name that the space gives to `target_modules`.
        learning_rate: peak learning rate, above 0.
        batch_size: examples in one forward pass of this trial.
        accumulate: batches that make one optimizer step.
        seed: everything random of the trial follows from it: A, a new head, data order, dropout.
        optimizer: `adamw` (betas 0.9, 0.999, eps 1e-8) or `sgd` (no momentum).
        weight_decay: decoupled for adamw, at least 0; applies to everything that trains.
        schedule: how the rate falls after the warm-up, to zero at `steps` (`linear`, `cosine`) or not at all.
        warmup: share of `steps`, in [0, 1), over which the rate rises linearly from 0.
        clip: largest norm of the trial's whole gradient, above 0; None for no clipping.
        steps: optimizer steps of the full budget.
        eval_every: steps between evaluations; the last step is always evaluated.
    """

    target_label: str = ""
    learning_rate: PositiveFloat = 1e-3
    batch_size: PositiveInt = 16
    accumulate: PositiveInt = 1
    seed: Annotated[int, Field(ge=0)] = 0
    optimizer: Optimizer = "adamw"
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    schedule: Schedule = "linear"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    clip: PositiveFloat | None = 1.0
    steps: PositiveInt = 200
    eval_every: PositiveInt = 50

    def fingerprint(self) -> str:
        """A short hash of the configuration, the same on every machine."""
        return fingerprint(self.content())

    def content(self, *without: str) -> dict[str, Any]:
        """What the configuration is told apart by, as JSON values, without the fields named.

        A field that came later counts only where it is not its default: seeds and trial ids are then those of before.
        """
        usual = {name for name in _LATER if getattr(self, name) == TrialConfig.model_fields[name].default}
        return self.model_dump(mode="json", exclude={*without, *usual})

    def evaluations(self) -> tuple[int, ...]:
        """The steps after which the trial is evaluated, ascending; the last is `steps`."""
        return (*range(self.eval_every, self.steps, self.eval_every), self.steps)


class WeightNorms(Record):
    """How large an adapter has become: Frobenius norms over all of its layers, sqrt(sum over layers of |.|^2).

    Attributes:
        a: of the A matrices.
        b: of the B matrices; 0 before training.
        update: of scaling * B A.
    """

    a: float
    b: float
    update: float


class EvalPoint(Record):
    """One evaluation of one trial on one part of the data.

    Attributes:
        step: optimizer steps done.
        metrics: name to value on the evaluation examples, e.g. accuracy, macro_f1, loss, perplexity.
        train_loss: mean training loss per optimizer step since the last evaluation; None before training.
        learning_rate: the rate of the last step.
        tokens: valid (unpadded) training tokens so far.
        wall_seconds: seconds since the trial got its slot, evaluations included.
        device_seconds: the engine's time so far that is attributed to this trial.
        norms: of the adapter at this step; None without LoRA layers, and in runs that did not note them.
    """

    step: Annotated[int, Field(ge=0)]
    metrics: Mapping[str, float]
    train_loss: float | None = None
    learning_rate: float | None = None
    tokens: int = 0
    wall_seconds: float = 0.0
    device_seconds: float = 0.0
    norms: WeightNorms | None = None


class Cost(Record):
    """What a trial cost.

    Attributes:
        wall_seconds: from slot to end; in a pack it depends on the company.
        device_seconds: the engine's busy time shared among its trials by FLOPs; over an engine they add up to it.
        evaluation_seconds: the part of `device_seconds` that evaluations took; None where it was not noted.
        solo_seconds: what the trial would have taken alone on the same device.
        solo_source: how `solo_seconds` was found: `probed` (single steps timed alone, times the steps) or `modelled`.
        state_bytes: the trial's own weights, gradients and optimizer state.
        peak_memory_bytes: the engine's peak while the trial trained, base and company included.
    """

    wall_seconds: float = 0.0
    device_seconds: float = 0.0
    evaluation_seconds: float | None = None
    solo_seconds: float | None = None
    solo_source: Literal["probed", "modelled"] | None = None
    state_bytes: int = 0
    peak_memory_bytes: int = 0


class TrialRecord(Record):
    """One trial's whole outcome. A failed trial is a record too: `error` says why.

    `metrics` and `step` belong to the kept evaluation (best or last, as the sweep says); the adapter and the
    outcomes in the run folder come from the same step.

    Attributes:
        repeat_of: the trial whose configuration this one trains again with another seed; None for what the search
            suggested.
        unknown: fields of this record, of its configuration, costs and evaluations of which nothing is known, in an
            imported run. What they hold here is a placeholder that readers take for missing; trials.jsonl has it not.
    """

    schema_version: int = SCHEMA_VERSION
    trial_id: str
    status: Status
    config: TrialConfig
    repeat_of: str | None = None
    metrics: Mapping[str, float] = Field(default_factory=dict)
    step: int = 0
    history: tuple[EvalPoint, ...] = ()
    trainable_parameters: int = 0
    adapter_parameters: int = 0
    base_parameters: int = 0
    adapter_bytes: int = 0
    tokens: int = 0
    cost: Cost = Cost()
    error: str | None = None
    unknown: tuple[str, ...] = ()

    def to_line(self) -> str:
        """The record as one line of trials.jsonl, without what is unknown."""
        if not self.unknown:
            return self.model_dump_json(exclude={"unknown"})
        hidden: dict[str, Any] = {name: True for name in self.unknown if name in TrialRecord.model_fields}
        hidden |= {part: set(self.unknown) for part in ("config", "cost")}
        hidden["history"] = {"__all__": set(self.unknown) - {"step", "learning_rate"}}
        return self.model_dump_json(exclude=hidden)


def fingerprint(value: Any) -> str:
    """Sixteen hex digits that name a JSON value, independent of key order and of the process."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]

"""SWEEP.yaml: what a sweep is told, validated once. `lora_sweep.sweep_file` reads it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from lora_sweep.budget import BudgetConfig
from lora_sweep.errors import ConfigError
from lora_sweep.records import Optimizer, Record, Schedule, TrialConfig, fingerprint
from lora_sweep.task_config import METRICS, MetricConfig, TaskConfig
from lora_sweep.validation import (
    AutoCount,
    Count,
    Flag,
    NotNegative,
    NotNegativeCount,
    Positive,
    Seed,
    Share,
    Text,
    TwoOrMore,
    absolute,
    as_config_error,
    base_folder,
    expand_space,
    from_pydantic,
)
from search_spaces import Space, SpaceError


class ModelConfig(Record):
    """The frozen base: a hub id, a folder or a GGUF file; `auto` is bf16 where the hardware has it, else fp32."""

    name: Text
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    trust_remote_code: Flag = False
    revision: Text | None = None

    @field_validator("name")
    @classmethod
    def _resolve(cls, name: str, info: ValidationInfo) -> str:
        base = base_folder(info)
        if base is None:
            return name
        path = absolute(name, base)
        if not path.exists():
            if name.startswith((".", "/", "~")) or name.endswith(".gguf"):
                raise ConfigError("model.name", "file or folder must exist", str(path))
            return name
        return str(path)


class SearchConfig(Record):
    """How configurations are found, and how many.

    Attributes:
        trials: configurations; each is `repeats` trials.
        repeats: seeds with which every configuration is trained.
    """

    algorithm: Literal["random", "grid", "tpe"] = "random"
    trials: Count = 16
    seed: Seed = 0
    repeats: Count = 1


class SchedulerConfig(Record):
    """Which trials are cut early.

    Attributes:
        type: `asha` keeps one trial in `reduction` at every cut; `fifo` cuts none.
        grace: evaluations before the first cut.
        reduction: at least 2.
    """

    type: Literal["asha", "fifo"] = "asha"
    grace: Count = 1
    reduction: TwoOrMore = 3


class TrainingConfig(Record):
    """How every trial trains unless its space says otherwise; as in `TrialConfig`.

    Attributes:
        base_dropout: whether the base's own dropout stays on while it is frozen.
    """

    optimizer: Optimizer = "adamw"
    weight_decay: NotNegative = 0.0
    schedule: Schedule = "linear"
    warmup: Share = 0.1
    clip: Positive | None = 1.0
    accumulate: Count = 1
    base_dropout: Flag = False


class ResourcesConfig(Record):
    """What the sweep may use.

    Attributes:
        engines: copies of the base.
        slots: adapters that train at once on each.
        tokens_per_pass: most padded tokens in one forward pass.
        activation_checkpointing: whether the base's blocks compute their activations again instead of keeping them.
        cuda_graphs: whether passes that come again are recorded and replayed; on GPUs only.
    """

    engines: AutoCount = "auto"
    slots: AutoCount = "auto"
    tokens_per_pass: Count = 16_384
    activation_checkpointing: Flag = False
    cuda_graphs: Flag = True


class FinalistsConfig(Record):
    """What happens to the leading trials before the pick.

    Attributes:
        top: how many of them are scored on the test part.
        seeds: new seeds with which the configuration of each is trained again; 0 unless given where the space sets the
            seed.
    """

    top: Count = 3
    seeds: NotNegativeCount = 3


class SweepConfig(Record):
    """One sweep, resolved: the parts of SWEEP.yaml (docs/sweep-file.md)."""

    name: Annotated[str, Field(pattern=r"^\w[\w .-]*$")] | None = None
    model: ModelConfig
    task: TaskConfig
    metric: MetricConfig
    space: Mapping[str, Any]
    search: SearchConfig = SearchConfig()
    scheduler: SchedulerConfig = SchedulerConfig()
    budget: BudgetConfig
    training: TrainingConfig = TrainingConfig()
    resources: ResourcesConfig = ResourcesConfig()
    finalists: FinalistsConfig = Field(default=FinalistsConfig(), validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _fill_metric(cls, raw: Any) -> Any:
        if not isinstance(raw, Mapping):
            return raw
        task, metric = raw.get("task"), raw.get("metric", {})
        kind = task.get("type") if isinstance(task, Mapping) else getattr(task, "type", None)
        unnamed = metric is None or (isinstance(metric, Mapping) and metric.get("name") is None)
        if unnamed and isinstance(kind, str) and kind in METRICS:
            return {**raw, "metric": {**(metric or {}), "name": next(iter(METRICS[kind]))}}
        return raw

    @field_validator("space", mode="before")
    @classmethod
    def _expand_space(cls, raw: Any, info: ValidationInfo) -> dict[str, Any]:
        return expand_space(raw, base_folder(info) or Path())

    @field_validator("finalists")
    @classmethod
    def _resolve_seeds(cls, finalists: FinalistsConfig, info: ValidationInfo) -> FinalistsConfig:
        if not _sets_seed(info.data.get("space")) or finalists.seeds == 0:
            return finalists
        if "seeds" in finalists.model_fields_set:
            raise ConfigError("finalists.seeds", _NO_OTHER_SEED, finalists.seeds, _LEAVE_SEED)
        return finalists.model_copy(update={"seeds": 0})

    @model_validator(mode="after")
    def _check(self) -> SweepConfig:
        if self.search.repeats > 1 and _sets_seed(self.space):
            raise ConfigError("search.repeats", _NO_OTHER_SEED, self.search.repeats, _LEAVE_SEED)
        known = METRICS[self.task.type]
        if self.metric.name not in known:
            rule = f"must be one of {', '.join(known)} for {self.task.type}"
            raise ConfigError("metric.name", rule, self.metric.name)
        if self.search.algorithm == "grid":
            try:
                self.resolved_space().check_grid()
            except SpaceError as error:
                raise as_config_error(error) from None
        return self

    def resolved_space(self) -> Space:
        """The space of candidates."""
        return Space.parse(self.space)

    def to_yaml(self) -> str:
        """The configuration as a file that `load_sweep` reads back equal."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)

    def trial_config(self, sample: Mapping[str, Any], train_examples: int) -> TrialConfig:
        """One candidate: a configuration of the space over the training defaults, with its budget and seed.

        Unless the space gives a seed, it follows from `search.seed` and from what the candidate trains with (not
        from its budget or from the label of its target modules).

        Args:
            sample: what `Space.suggest` gave.
            train_examples: how many training examples an epoch has.

        Raises:
            ConfigError: the two together are no valid candidate.
        """
        merged = self.training.model_dump(exclude={"base_dropout"}) | dict(sample)
        try:
            trial = TrialConfig(**merged)
        except ValidationError as error:
            raise from_pydantic(error, TrialConfig, "space.") from None
        steps, eval_every = self.budget.in_steps(trial.batch_size * trial.accumulate, train_examples)
        trial = trial.model_copy(update={"steps": steps, "eval_every": eval_every})
        return trial if "seed" in sample else self.with_seed(trial, 1)

    def with_seed(self, trial: TrialConfig, number: int) -> TrialConfig:
        """The same configuration with its first, second, ... seed.

        Args:
            trial: a candidate of this sweep, with any of its seeds.
            number: from 1.
        """
        content = trial.content("seed", "steps", "eval_every", "target_label")
        named = [self.search.seed, content] if number == 1 else [self.search.seed, content, number]
        return trial.model_copy(update={"seed": int(fingerprint(named), 16) % 2**31})


_NO_OTHER_SEED = "needs other seeds than the space gives"
_LEAVE_SEED = "Take `seed` out of the space: seeds then follow from search.seed."


def _sets_seed(space: Mapping[str, Any] | None) -> bool:
    return space is not None and bool(Space.parse(space).possible("seed"))

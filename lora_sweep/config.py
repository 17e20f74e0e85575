"""SWEEP.yaml: what a sweep is told, validated once.

`load_sweep` reads a file, `parse_sweep` a mapping; both give a `SweepConfig` in which paths are absolute, the space
is written out and every default is filled in. Every rule that the input breaks becomes one `ConfigError`.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import yaml
from pydantic import BeforeValidator, Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from lora_sweep.errors import ConfigError
from lora_sweep.records import Optimizer, Record, Schedule, TrialConfig, fingerprint
from search_spaces import Space, SpaceError, load
from search_spaces.errors import Shown, hint, shown
from search_spaces.texts import read_number, read_yaml

METRICS: dict[str, dict[str, Literal["max", "min"]]] = {
    "classification": {"accuracy": "max", "macro_f1": "max", "loss": "min"},
    "causal-lm": {"loss": "min", "perplexity": "min"},
}
"""Task to its metrics, the default first, with the direction that is better."""

_UNKNOWN = "is not a known key"


def _number(value: object) -> int | float:
    number = read_number(value)
    if number is None:
        raise PydanticCustomError("number", "must be a number")
    return number


def _auto_or_count(value: object) -> str | int:
    number = read_number(value)
    if value == "auto":
        return "auto"
    if number is None or number < 1 or number != int(number):
        raise PydanticCustomError("count", "must be auto or a whole number of at least 1")
    return int(number)


Text = Annotated[str, Field(min_length=1)]
Flag = Annotated[bool, Field(strict=True)]
Count = Annotated[int, BeforeValidator(_number), Field(ge=1)]
Seed = Annotated[int, BeforeValidator(_number), Field(ge=0)]
Positive = Annotated[float, BeforeValidator(_number), Field(gt=0)]
NotNegative = Annotated[float, BeforeValidator(_number), Field(ge=0)]
Share = Annotated[float, BeforeValidator(_number), Field(ge=0, lt=1)]
AutoCount = Annotated[Literal["auto"] | int, BeforeValidator(_auto_or_count)]


# The parts -----------------------------------------------------------------------------------------------------


class ModelConfig(Record):
    """The frozen base: a hub id, a folder or a GGUF file; `auto` is bf16 where the hardware has it, else fp32."""

    name: Text
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    trust_remote_code: Flag = False
    revision: Text | None = None

    @field_validator("name")
    @classmethod
    def _resolve(cls, name: str, info: ValidationInfo) -> str:
        base = _base(info)
        if base is None:
            return name
        path = _absolute(name, base)
        if not path.exists():
            if name.startswith((".", "/", "~")) or name.endswith(".gguf"):
                raise ConfigError("model.name", "file or folder must exist", str(path))
            return name
        return str(path)


class DataConfig(Record):
    """Where the examples are: files (csv, tsv, jsonl, parquet), or with `hub` the splits of a dataset there.

    Attributes:
        train: what trains.
        eval: what steers: early stopping, search, selection.
        test: what only the finalists are scored on.
        encoding: of text files.
        separator: of columns in csv and tsv; None for a tab in .tsv files and a comma in others.
    """

    hub: Text | None = None
    subset: Text | None = None
    train: Text
    eval: Text | None = None
    test: Text | None = None
    encoding: Text = "utf-8"
    separator: Text | None = None

    @field_validator("train", "eval", "test")
    @classmethod
    def _resolve(cls, value: str | None, info: ValidationInfo) -> str | None:
        base = _base(info)
        if value is None or base is None or info.data.get("hub") is not None:
            return value
        path = _absolute(value, base)
        if not path.is_file():
            fix = "Paths are relative to the sweep's own file; with `hub:` these are names of splits."
            raise ConfigError(f"task.data.{info.field_name}", "file must exist", str(path), fix)
        return str(path)

    @model_validator(mode="after")
    def _check(self) -> DataConfig:
        if self.subset is not None and self.hub is None:
            raise ConfigError("task.data.subset", "belongs to data from the hub", self.subset, "Give `hub:` too.")
        return self


class TaskConfig(Record):
    """What to learn: the data and the columns that hold it; `max_length` is in tokens."""

    type: Literal["classification", "causal-lm"]
    data: DataConfig
    text: Text | None = None
    label: Text | None = None
    prompt: Text | None = None
    response: Text | None = None
    messages: Text | None = None
    max_length: Count = 128

    @model_validator(mode="after")
    def _check_columns(self) -> TaskConfig:
        columns = ("text", "label", "prompt", "response", "messages")
        given = tuple(name for name in columns if getattr(self, name) is not None)
        if self.type == "classification":
            allowed: tuple[tuple[str, ...], ...] = (("text", "label"),)
            rule = "classification needs the columns text and label"
        else:
            allowed = (("text",), ("prompt", "response"), ("messages",))
            rule = "causal-lm needs exactly one of text, prompt + response, messages"
        if given not in allowed:
            got = Shown(" + ".join(given) or "none of them")
            raise ConfigError("task", rule, got, "Give each the name of a column of the data.")
        return self


class MetricConfig(Record):
    """What a trial is judged by: the metric, which direction is better, and which evaluation counts."""

    name: Text
    mode: Literal["max", "min"]
    keep: Literal["best", "last"] = "best"

    @model_validator(mode="before")
    @classmethod
    def _fill_mode(cls, raw: Any) -> Any:
        if isinstance(raw, Mapping) and raw.get("mode") is None:
            return {**raw, "mode": _MODES.get(str(raw.get("name")), "max")}
        return raw

    @model_validator(mode="after")
    def _check_mode(self) -> MetricConfig:
        mode = _MODES.get(self.name, self.mode)
        if mode != self.mode:
            raise ConfigError("metric.mode", f"must be {mode} for {self.name}", self.mode, "Leave it out.")
        return self


_MODES = {name: mode for metrics in METRICS.values() for name, mode in metrics.items()}


class SearchConfig(Record):
    """How configurations are found, and how many."""

    algorithm: Literal["random", "grid", "tpe"] = "random"
    trials: Count = 16
    seed: Seed = 0


class SchedulerConfig(Record):
    """Which trials are cut early.

    Attributes:
        type: `asha` keeps one trial in `reduction` at every cut; `fifo` cuts none.
        grace: evaluations before the first cut.
        reduction: at least 2.
    """

    type: Literal["asha", "fifo"] = "asha"
    grace: Count = 1
    reduction: Annotated[int, BeforeValidator(_number), Field(ge=2)] = 3


class BudgetConfig(Record):
    """How long a trial trains: optimizer steps or passes over the training data, one of them.

    Attributes:
        eval_every: in the unit of the budget; a fourth of it unless given.
    """

    steps: Count | None = None
    epochs: Positive | None = None
    eval_every: Positive

    @model_validator(mode="before")
    @classmethod
    def _fill_eval_every(cls, raw: Any) -> Any:
        if not isinstance(raw, Mapping) or raw.get("eval_every") is not None:
            return raw
        steps, epochs = read_number(raw.get("steps")), read_number(raw.get("epochs"))
        fourth = math.ceil(steps / 4) if steps is not None else (epochs or 4) / 4
        return {**raw, "eval_every": fourth if fourth > 0 else 1}

    @model_validator(mode="after")
    def _check(self) -> BudgetConfig:
        if (self.steps is None) == (self.epochs is None):
            got = Shown("neither" if self.steps is None else f"steps={self.steps}, epochs={self.epochs:g}")
            raise ConfigError("budget", "must give exactly one of steps and epochs", got, "Set the other to null.")
        total = self.steps if self.steps is not None else self.epochs
        every = Shown(f"{self.eval_every:g}")
        if total is not None and self.eval_every > total:
            raise ConfigError("budget.eval_every", f"must be at most the budget ({total:g})", every)
        if self.steps is not None and self.eval_every != int(self.eval_every):
            raise ConfigError("budget.eval_every", "must be whole when the budget is in steps", every)
        return self

    def in_steps(self, examples_per_step: int, train_examples: int) -> tuple[int, int]:
        """The budget and the distance between evaluations, in optimizer steps; both at least 1."""
        if self.steps is not None:
            return self.steps, int(self.eval_every)
        # Fraction(str(x)), so that 1.1 epochs of 100 examples are 110 and not a hair more
        steps = [
            math.ceil(train_examples * Fraction(str(epochs)) / examples_per_step)
            for epochs in (self.epochs, self.eval_every)
        ]
        return max(steps[0], 1), max(steps[1], 1)


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
    """

    engines: AutoCount = "auto"
    slots: AutoCount = "auto"
    tokens_per_pass: Count = 16_384


class FinalistsConfig(Record):
    """How many leading trials are scored on the test part."""

    top: Count = 3


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
    finalists: FinalistsConfig = FinalistsConfig()

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
        return _load_space(raw, _base(info) or Path())

    @model_validator(mode="after")
    def _check(self) -> SweepConfig:
        known = METRICS[self.task.type]
        if self.metric.name not in known:
            rule = f"must be one of {', '.join(known)} for {self.task.type}"
            raise ConfigError("metric.name", rule, self.metric.name)
        if self.search.algorithm == "grid":
            try:
                self.resolved_space().check_grid()
            except SpaceError as error:
                raise _as_config_error(error) from None
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
            raise _from_pydantic(error, TrialConfig, "space.") from None
        steps, eval_every = self.budget.in_steps(trial.batch_size * trial.accumulate, train_examples)
        update: dict[str, Any] = {"steps": steps, "eval_every": eval_every}
        if "seed" not in sample:
            content = trial.model_dump(mode="json", exclude={"seed", "steps", "eval_every", "target_label"})
            update["seed"] = int(fingerprint([self.search.seed, content]), 16) % 2**31
        return trial.model_copy(update=update)


# Reading -------------------------------------------------------------------------------------------------------


def load_sweep(path: Path, overrides: Sequence[str] = ()) -> SweepConfig:
    """Read SWEEP.yaml.

    Args:
        path: the file; paths in it are relative to its folder.
        overrides: `a.b=c` each, as given to `--set`; c is YAML.

    Raises:
        ConfigError: the first rule that the file or an override breaks.
    """
    try:
        raw = read_yaml(path.read_text(encoding="utf-8"), path.name)
    except OSError as error:
        raise ConfigError(str(path), f"must be a readable file ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ConfigError(str(path), "must be text in UTF-8") from None
    except SpaceError as error:
        raise _as_config_error(error) from None
    return _parse(raw, path.name, path.parent, overrides)


def parse_sweep(raw: Mapping[str, Any], place: str, base: Path) -> SweepConfig:
    """Validate a sweep given as a mapping.

    Args:
        raw: the content of a SWEEP.yaml.
        place: what errors call it, e.g. `sweep.yaml`.
        base: the folder to which its paths are relative.

    Raises:
        ConfigError: the first rule that it breaks.
    """
    return _parse(raw, place, base, ())


def _parse(raw: object, place: str, base: Path, overrides: Sequence[str]) -> SweepConfig:
    if not isinstance(raw, Mapping):
        raise ConfigError(place, "must be a mapping with model, task, space and budget", shown(raw))
    settings = [_split_override(text) for text in overrides]
    try:
        raw = copy.deepcopy(dict(raw))
        for path, value, text in settings:
            _set(raw, path, value, text, base)
        return SweepConfig.model_validate(raw, context={"base": base})
    except ValidationError as error:
        refused = _from_pydantic(error, SweepConfig)
    except ConfigError as error:
        refused = error
    where = _blame(refused, settings) or f"{place}: {refused.place}"
    raise ConfigError(where, refused.rule, refused.value, refused.fix) from None


# Overrides -----------------------------------------------------------------------------------------------------

Setting = tuple[tuple[str, ...], Any, str]


def _split_override(text: str) -> Setting:
    path, equals, value = text.partition("=")
    keys = tuple(path.strip().split("."))
    if not equals or not all(keys):
        raise ConfigError(f"--set {text}", "must be KEY=VALUE", None, "For instance --set search.trials=32.")
    try:
        return keys, read_yaml(value, f"--set {text}"), text
    except SpaceError as error:
        raise _as_config_error(error) from None


def _set(raw: dict[str, Any], path: tuple[str, ...], value: object, text: str, base: Path) -> None:
    """Write one override into the raw configuration; a space given by name is written out first."""
    if path[0] == "space" and len(path) > 1 and isinstance(raw.get("space"), str):
        raw["space"] = _load_space(raw["space"], base)
    inner = raw
    for index, key in enumerate(path[:-1]):
        if inner.get(key) is None:
            inner[key] = {}
        inner = inner[key]
        if not isinstance(inner, dict):
            where = ".".join(path[: index + 1])
            raise ConfigError(where, "must be a mapping to set a key in it", inner, f"Set {where} as a whole.")
    inner[path[-1]] = value


def _blame(error: ConfigError, settings: Sequence[Setting]) -> str | None:
    """The override that brought the error, as a place."""
    for path, _, text in reversed(settings):
        dotted = ".".join(path)
        if error.place == dotted:
            return f"--set {text}"
        inside = error.place.startswith((f"{dotted}.", f"{dotted}["))
        if inside or (error.rule == _UNKNOWN and dotted.startswith(f"{error.place}.")):
            return f"--set {text}: {error.place}"
    return None


# Errors and paths ----------------------------------------------------------------------------------------------


def _from_pydantic(error: ValidationError, model: type[Record], prefix: str = "") -> ConfigError:
    """The first error in our words; unknown keys come first, for they explain what is missing."""
    unknown = ("extra_forbidden", "invalid_key")
    details = sorted(error.errors(), key=lambda detail: detail["type"] not in unknown)[0]
    place = prefix + ".".join(str(part) for part in details["loc"])
    if details["type"] in unknown:
        fix = hint(details["loc"][-1], _keys_at(model, details["loc"][:-1]), "Known keys")
        return ConfigError(place, _UNKNOWN, None, fix)
    value = None if details["type"] == "missing" else shown(details["input"])
    return ConfigError(place, _rule(details), value)


def _rule(details: ErrorDetails) -> str:
    context = details.get("ctx", {})
    limit = next((f"{context[name]:g}" for name in ("ge", "gt", "lt") if name in context), "")
    rules = {
        "missing": "is required",
        "string_type": "must be text",
        "string_too_short": "must not be empty",
        "bool_type": "must be true or false",
        "model_type": "must be a mapping of keys",
        "int_from_float": "must be a whole number",
        "literal_error": f"must be {context.get('expected')}",
        "greater_than_equal": f"must be at least {limit}",
        "greater_than": f"must be above {limit}",
        "less_than": f"must be below {limit}",
        "string_pattern_mismatch": "must be letters, digits, spaces, dots, - and _ only",
    }
    return rules.get(details["type"], details["msg"].replace("Input should be", "must be"))


def _keys_at(model: type[Record], loc: Sequence[str | int]) -> list[str]:
    for part in loc:
        model = cast(type[Record], model.model_fields[str(part)].annotation)
    return list(model.model_fields)


def _as_config_error(error: SpaceError) -> ConfigError:
    return ConfigError(error.place, error.rule, error.value, error.fix)


def _load_space(raw: Any, base: Path) -> dict[str, Any]:
    try:
        return load(raw, base).to_dict()
    except SpaceError as error:
        raise _as_config_error(error) from None


def _base(info: ValidationInfo) -> Path | None:
    context = info.context
    return context["base"] if isinstance(context, Mapping) else None


def _absolute(text: str, base: Path) -> Path:
    # not resolve(): a link's own name may carry the suffix that tells the format
    return Path(os.path.normpath((base / Path(text).expanduser()).absolute()))

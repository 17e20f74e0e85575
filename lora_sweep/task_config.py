"""What to learn and by what it is judged: `task` and `metric` of SWEEP.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import ValidationInfo, field_validator, model_validator

from lora_sweep.errors import ConfigError
from lora_sweep.records import Record
from lora_sweep.validation import Count, Share, Text, absolute, base_folder
from search_spaces.errors import Shown

METRICS: dict[str, dict[str, Literal["max", "min"]]] = {
    "classification": {"accuracy": "max", "macro_f1": "max", "loss": "min"},
    "causal-lm": {"loss": "min", "perplexity": "min"},
}
"""Task to its metrics, the default first, with the direction that is better."""


class DataConfig(Record):
    """Where the examples are: files (csv, tsv, jsonl, parquet), or with `hub` the splits of a dataset there.

    Attributes:
        train: what trains.
        eval: what steers: early stopping, search, selection.
        test: what only the finalists are scored on.
        holdout: share of the training examples (at most 512) that no trial trains on, for what is measured or tuned
            after the sweep; 0 for none.
        encoding: of text files.
        separator: of columns in csv and tsv; None for a tab in .tsv files and a comma in others.
    """

    hub: Text | None = None
    subset: Text | None = None
    train: Text
    eval: Text | None = None
    test: Text | None = None
    holdout: Share = 0.05
    encoding: Text = "utf-8"
    separator: Text | None = None

    @field_validator("train", "eval", "test")
    @classmethod
    def _resolve(cls, value: str | None, info: ValidationInfo) -> str | None:
        base = base_folder(info)
        if value is None or base is None or info.data.get("hub") is not None:
            return value
        path = absolute(value, base)
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

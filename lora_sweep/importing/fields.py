"""What a table of results may hold: the fields of a trial, the metrics, and the names that other tools give them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["text", "status", "targets", "whole", "count", "positive", "not_negative", "share", "seconds", "metric"]
"""How a cell is read; `cells.py` has the rule of each."""

Mode = Literal["max", "min"]

Place = Literal["trial", "config", "record", "cost"]
"""Where a field stands in a record: in neither of the three parts for `trial`."""


@dataclass(frozen=True)
class Field:
    """One fact about a trial.

    Attributes:
        kind: how its cells are read.
        place: where it stands in a record.
        names: what columns are called that hold it, folded, the likeliest first.
    """

    kind: Kind
    place: Place
    names: tuple[str, ...]


FIELDS: Mapping[str, Field] = {
    "trial_id": Field("text", "trial", ("trial_id", "run_name", "run_id", "name", "id", "number", "trial", "run")),
    "status": Field("status", "trial", ("status", "state")),
    "error": Field("text", "trial", ("error", "error_message")),
    "step": Field("whole", "trial", ("step", "global_step", "train_global_step", "training_iteration", "iteration")),
    "reached_step": Field("whole", "trial", ("reached_step",)),
    "train_loss": Field("metric", "trial", ("train_loss", "training_loss")),
    "test_examples": Field("count", "trial", ("test_examples",)),
    "rank": Field("count", "config", ("lora_r", "lora_rank", "peft_r", "r", "rank")),
    "alpha": Field("positive", "config", ("lora_alpha", "peft_lora_alpha", "alpha")),
    "dropout": Field("share", "config", ("lora_dropout", "peft_lora_dropout", "dropout")),
    "target_modules": Field(
        "targets", "config", ("target_modules", "lora_target_modules", "peft_target_modules", "targets", "target_label")
    ),
    "learning_rate": Field("positive", "config", ("learning_rate", "lr", "peak_learning_rate")),
    "batch_size": Field("count", "config", ("batch_size", "per_device_train_batch_size", "train_batch_size", "bs")),
    "seed": Field("whole", "config", ("seed", "random_seed")),
    "steps": Field("count", "config", ("steps", "max_steps", "num_steps", "total_steps")),
    "trainable_parameters": Field(
        "whole", "record", ("trainable_parameters", "trainable_params", "n_params", "num_trainable_parameters")
    ),
    "adapter_parameters": Field("whole", "record", ("adapter_parameters", "lora_parameters", "lora_params")),
    "base_parameters": Field("whole", "record", ("base_parameters", "base_params")),
    "adapter_bytes": Field("whole", "record", ("adapter_bytes", "adapter_size")),
    "tokens": Field("whole", "record", ("tokens", "num_input_tokens_seen", "tokens_trained")),
    "device_seconds": Field("seconds", "cost", ("device_seconds", "gpu_seconds")),
    "solo_seconds": Field("seconds", "cost", ("solo_seconds",)),
    "wall_seconds": Field(
        "seconds", "cost", ("wall_seconds", "runtime", "train_runtime", "time_total_s", "duration", "wall_time")
    ),
    "state_bytes": Field("whole", "cost", ("state_bytes",)),
    "peak_memory_bytes": Field("whole", "cost", ("peak_memory_bytes",)),
}
"""Every field but the metrics, by its key in a map."""

METRIC_MODES: Mapping[str, Mode] = {"accuracy": "max", "macro_f1": "max", "loss": "min", "perplexity": "min"}
"""The metrics that are known by name, and whether larger or smaller is better; the first that is there chose."""

_METRIC_WORDS = {
    "accuracy": ("accuracy", "acc"),
    "macro_f1": ("macro_f1", "f1_macro"),
    "loss": ("loss",),
    "perplexity": ("perplexity", "ppl"),
}
_EVAL, _TEST = ("eval", "val", "valid", "validation"), ("test",)
PROPORTIONS = ("accuracy", "macro_f1")
"""Metrics that are shares, in [0, 1]."""

OUTCOME_FIELDS = ("trial_id", "example_id", "split", "label", "prediction", "correct", "nll_sum", "tokens")
"""The columns of a file of outcomes on examples."""

UNNAMED = ("value", "values_0", "objective", "score")
"""Columns in which search tools keep the objective without saying what it is."""

_PREFIXES = ("config", "params", "hparams", "hyperparameters", "user_attrs", "train_loop_config", "summary")


def folded(column: str) -> tuple[str, bool]:
    """A column's name in small letters and underscores without prefixes such as `config/`, and whether it had one."""
    name = re.sub(r"[^a-z0-9]+", "_", column.strip().casefold()).strip("_")
    prefixed = False
    while (prefix := next((one for one in _PREFIXES if name.startswith(one + "_")), None)) is not None:
        name, prefixed = name.removeprefix(prefix + "_"), True
    return name, prefixed


def metric_names(metric: str) -> tuple[str, ...]:
    """What columns with the metric on the evaluation data (or with `test_NAME` on the test data) are called, folded."""
    name = metric.removeprefix("test_")
    words = _METRIC_WORDS.get(name, (folded(name)[0],))
    parts = _TEST if metric.startswith("test_") else _EVAL
    names = [f"{part}_{word}" for word in words for part in parts]
    if metric.startswith("test_"):
        return tuple(names)
    # `loss` alone is as a rule the training loss
    return tuple(names) if name == "loss" else (*names, *words, *(f"mean_{word}" for word in words))

"""A sweep around recommended ranks: the same base and data, with the ranks at several sizes beside the uniform ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lora_sweep.analysis.ranks import Ranks, with_ranks
from lora_sweep.config import SweepConfig
from lora_sweep.records import AdapterSpec, TrialConfig

SCALES = {"recommended-half": 0.5, "recommended": 1.0, "recommended-double": 2.0}
TRAINING_KEYS = ("accumulate", "optimizer", "weight_decay", "schedule", "warmup", "clip")


def recommended_sweep(config: SweepConfig, trial: TrialConfig, recommendation: Mapping[str, Any]) -> SweepConfig:
    """The run's sweep with a space around a recommendation.

    Args:
        config: the run's.
        trial: the configuration of the trial that the recommendation is from.
        recommendation: the content of RUN/analysis/recommendation.json.
    """
    raw = config.model_dump(mode="json")
    search = raw["search"] | ({"algorithm": "random"} if config.search.algorithm == "grid" else {})
    space = recommended_space(trial, recommendation)
    name = {"name": f"{config.name}-ranks"} if config.name else {}
    return SweepConfig.model_validate(raw | name | {"space": space, "search": search})


def recommended_space(trial: TrialConfig, recommendation: Mapping[str, Any]) -> dict[str, Any]:
    """Uniform ranks, and the recommended ones at half, once and twice their size, at rates around the trial's.

    Every layer keeps the trial's scaling alpha / rank.
    """
    layers = recommendation["layers"]
    choices: dict[str, Ranks] = {"uniform-ranks": {row["name"]: row["uniform_rank"] for row in layers}}
    for label, scale in SCALES.items():
        ranks = {row["name"]: _scaled(row, scale) for row in layers}
        if ranks not in choices.values():
            choices[label] = ranks
    scalings = {row["name"]: trial.scaling_of(row["name"]) for row in layers}
    specs = {label: with_ranks(trial, ranks, scalings) for label, ranks in choices.items()}
    return {
        "dropout": trial.dropout,
        "bias": trial.bias,
        "learning_rate": {"log_uniform": [trial.learning_rate / 2, 2 * trial.learning_rate]},
        "batch_size": trial.batch_size,
        **{key: getattr(trial, key) for key in TRAINING_KEYS},
        "rank_pattern": {label: _option(label, spec) for label, spec in specs.items()},
    }


def _scaled(row: Mapping[str, Any], scale: float) -> int:
    if not row["rank"]:
        return 0
    return int(min(max(1, round(scale * row["rank"])), row["out"], row["in"]))


def _option(label: str, spec: AdapterSpec) -> dict[str, Any]:
    more: dict[str, Any] = {
        "target_modules": {label: list(spec.target_modules)},
        "rank": spec.rank,
        "alpha": spec.alpha,
    }
    if spec.alpha_pattern:
        more["alpha_pattern"] = dict(spec.alpha_pattern)
    return {"value": dict(spec.rank_pattern), "with": more}

"""What a validation of recommended ranks trains: arms of equal LoRA parameters, each tuned alike, over the same seeds.

    uniform       one rank everywhere
    recommended   the recommended ranks
    permuted-1    the recommended ranks, dealt anew at random among layers of the same shape
    svd           uniform at twice the rank, cut after training by its singular values to the same budget

Every arm gets the same number of learning rates with one seed, the best on `eval` is its own, and at that rate the same
new seeds as every other arm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from lora_sweep.analysis.ranks import Ranks, with_ranks
from lora_sweep.records import Record, TrialConfig, TrialRecord, fingerprint
from lora_sweep.sweep.candidates import Candidate

Kind = Literal["uniform", "recommended", "permuted", "svd"]
Role = Literal["tuning", "final"]

WIDER = 2
"""How many times the uniform rank the arm that is cut afterwards trains with."""
TRIES = 50


class Arm(Record):
    """One way to spend the parameters.

    Attributes:
        name: also the `target_label` of its trials.
        kind: see the module.
        ranks: what it ends with, by layer; of `svd` what it is trained with.
        parameters: of LoRA, at the end.
        trained_parameters: of LoRA, while it trains.
        config: to be given a rate and a seed.
    """

    name: str
    kind: Kind
    ranks: Mapping[str, int]
    parameters: int
    trained_parameters: int
    config: TrialConfig


class ValidationPlan(Record):
    """All that a validation trains and how it is judged; RUN/validation/analysis/arms.json holds it.

    Attributes:
        trial_id: whose recommendation.
        metric, mode: what chooses the rates (on `eval`) and is compared (on `test`).
        margin: a difference within this, either way, makes no difference in practice.
        rates: tried by every arm.
        tuning_seed: of all trials that choose a rate.
        seeds: of all trials that are compared.
        arms: the first is uniform, the second recommended.
    """

    trial_id: str
    metric: str
    mode: Literal["max", "min"]
    margin: float
    rates: tuple[float, ...]
    tuning_seed: int
    seeds: tuple[int, ...]
    arms: tuple[Arm, ...]

    @property
    def trials(self) -> int:
        """How many will be trained."""
        return len(self.arms) * (len(self.rates) + len(self.seeds))

    @property
    def budget(self) -> int:
        """LoRA parameters of the uniform arm."""
        return self.arms[0].parameters


@dataclass(frozen=True)
class Assignment:
    """A trial's part in a validation."""

    candidate: Candidate
    arm: str
    role: Role

    def row(self) -> dict[str, Any]:
        """For the file."""
        config = self.candidate.config
        return {
            "trial_id": self.candidate.trial_id,
            "arm": self.arm,
            "role": self.role,
            "seed": config.seed,
            "learning_rate": config.learning_rate,
        }


def plan_validation(
    trial: TrialConfig,
    recommendation: Mapping[str, Any],
    *,
    metric: str,
    mode: Literal["max", "min"],
    margin: float,
    rates: int,
    seeds: int,
    permutations: int,
    seed: int,
) -> ValidationPlan:
    """Plan a validation.

    Args:
        trial: the configuration that the recommendation is from, with the budget of steps to train for.
        recommendation: the content of RUN/analysis/recommendation.json.
        metric, mode, margin: see `ValidationPlan`.
        rates: how many learning rates, a factor 2 apart around the trial's own.
        seeds: how many to compare.
        permutations: how many random placements; fewer where there are not so many.
        seed: decides on placements and seeds.
    """
    layers = recommendation["layers"]
    uniform = {row["name"]: int(row["uniform_rank"]) for row in layers}
    recommended = {row["name"]: int(row["rank"]) for row in layers}
    wide = {row["name"]: min(WIDER * int(row["uniform_rank"]), row["out"], row["in"]) for row in layers}
    costs = {row["name"]: row["out"] + row["in"] for row in layers}
    scalings = {name: trial.scaling_of(name) for name in costs}
    budget = _parameters(uniform, costs)

    def arm(name: str, kind: Kind, ranks: Ranks) -> Arm:
        config = with_ranks(trial, ranks, scalings).model_copy(update={"target_label": name})
        trained = _parameters(ranks, costs)
        return Arm(
            name=name,
            kind=kind,
            ranks=ranks,
            parameters=min(trained, budget),
            trained_parameters=trained,
            config=config,
        )

    placements = permuted_ranks(layers, permutations, seed)
    numbers = [int(fingerprint([seed, "validation", number]), 16) % 2**31 for number in range(seeds + 1)]
    return ValidationPlan(
        trial_id=recommendation["trial_id"],
        metric=metric,
        mode=mode,
        margin=margin,
        rates=tuple(trial.learning_rate * 2 ** (place - (rates - 1) / 2) for place in range(rates)),
        tuning_seed=numbers[0],
        seeds=tuple(numbers[1:]),
        arms=(
            arm("uniform", "uniform", uniform),
            arm("recommended", "recommended", recommended),
            *(arm(f"permuted-{i}", "permuted", ranks) for i, ranks in enumerate(placements, start=1)),
            arm("svd", "svd", wide),
        ),
    )


def permuted_ranks(layers: Sequence[Mapping[str, Any]], count: int, seed: int) -> list[dict[str, int]]:
    """The recommended ranks dealt anew among layers of the same shape.

    Args:
        layers: rows with `name`, `out`, `in` and `rank`.
        count: how many placements, all different and none the recommended one; fewer where that cannot be.
        seed: of the draws.
    """
    rng = np.random.default_rng([seed, 0xA2])
    shapes: dict[tuple[int, int], list[Mapping[str, Any]]] = {}
    for row in layers:
        shapes.setdefault((row["out"], row["in"]), []).append(row)
    known = [{row["name"]: int(row["rank"]) for row in layers}]
    for _ in range(TRIES * count):
        dealt: dict[str, int] = {}
        for group in shapes.values():
            order = rng.permutation(len(group))
            dealt |= {row["name"]: int(group[i]["rank"]) for row, i in zip(group, order, strict=True)}
        ranks = {name: dealt[name] for name in known[0]}
        if ranks not in known and len(known) <= count:
            known.append(ranks)
    return known[1:]


def tuning(plan: ValidationPlan) -> list[Assignment]:
    """The trials that choose each arm's learning rate."""
    pairs = [(arm, rate) for arm in plan.arms for rate in plan.rates]
    return [
        Assignment(Candidate(number, _with(arm, rate, plan.tuning_seed)), arm.name, "tuning")
        for number, (arm, rate) in enumerate(pairs)
    ]


def finals(plan: ValidationPlan, records: Mapping[str, TrialRecord]) -> list[Assignment] | None:
    """The trials that are compared; None as long as a tuning trial has not ended.

    An arm of which no tuning trial is complete has none. Equal rates on `eval` go to the lower one.

    Args:
        plan: the validation.
        records: of the trials that have ended, by id.
    """
    tried = tuning(plan)
    if any(one.candidate.trial_id not in records for one in tried):
        return None
    sign = 1 if plan.mode == "max" else -1
    found = []
    for place, arm in enumerate(plan.arms):
        ended = [records[one.candidate.trial_id] for one in tried if one.arm == arm.name]
        complete = [record for record in ended if record.status == "complete" and plan.metric in record.metrics]
        if not complete:
            continue
        best = max(complete, key=lambda record: sign * record.metrics[plan.metric])
        first = len(tried) + place * len(plan.seeds)
        for number, seed in enumerate(plan.seeds, start=first):
            config = _with(arm, best.config.learning_rate, seed)
            found.append(Assignment(Candidate(number, config), arm.name, "final"))
    return found


def _with(arm: Arm, rate: float, seed: int) -> TrialConfig:
    return arm.config.model_copy(update={"learning_rate": rate, "seed": seed})


def _parameters(ranks: Ranks, costs: Mapping[str, int]) -> int:
    return sum(rank * costs[name] for name, rank in ranks.items())

"""What a validation of recommended ranks shows: paired differences over seeds, and a verdict that follows from them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

import numpy as np

from lora_sweep.store import RunFolder
from reports.metric import Metric
from reports.statistics import Evidence, gather
from reports.statistics.effects import Effect, effect_over_seeds

Verdict = Literal["better", "equivalent", "inconclusive"]

FOLDER = "validation"
RIVALS = ("uniform", "permuted", "svd")
"""What the recommended ranks are compared with: kinds of arms."""
EQUAL = 0.02
"""Arms whose LoRA parameters differ by more than this share are not called equal."""


@dataclass(frozen=True)
class ArmResult:
    """What one arm reached on test and what it cost.

    Attributes:
        name, kind: as planned.
        parameters: of LoRA in the adapters that are compared; `trained_parameters` while they trained.
        learning_rate: chosen on eval; NaN when no tuning trial was complete.
        values: the metric on test by seed, of the complete ones.
        failed: trials that failed.
        tokens, device_seconds: of all of its trials, tuning included.
    """

    name: str
    kind: str
    parameters: int
    trained_parameters: int
    learning_rate: float
    values: Mapping[int, float]
    failed: int
    tokens: int
    device_seconds: float

    @property
    def mean(self) -> float:
        """NaN without a complete final trial."""
        return fmean(self.values.values()) if self.values else math.nan


@dataclass(frozen=True)
class Validation:
    """A validation, judged.

    Attributes:
        metric: compared on test.
        margin: see `Verdict` in docs/recommendation.md.
        examples: of test.
        seeds: planned.
        arms: as planned, uniform and recommended first.
        effects: by kind of rival, how much better the recommended ranks are; None where that cannot be said.
        complete: whether all planned trials have ended.
    """

    metric: Metric
    margin: float
    examples: int
    seeds: int
    arms: tuple[ArmResult, ...]
    effects: Mapping[str, Effect | None]
    complete: bool

    @property
    def verdict(self) -> Verdict:
        """By the intervals alone."""
        uniform, permuted = self.effects["uniform"], self.effects["permuted"]
        if not self.complete or uniform is None or abs(self.difference) > EQUAL:
            return "inconclusive"
        # seeds that were lost must not speak for the arm that lost them
        whole = len(self.arms[1].values) == self.seeds
        if whole and uniform.bounds[0] > 0 and permuted is not None and permuted.bounds[0] > 0:
            return "better"
        if -self.margin < uniform.bounds[0] and uniform.bounds[1] < self.margin:
            return "equivalent"
        return "inconclusive"

    @property
    def difference(self) -> float:
        """Parameters of the recommended arm over the uniform arm's, less 1."""
        return self.arms[1].parameters / self.arms[0].parameters - 1


def read_validation(run: RunFolder, recommendation: Mapping[str, Any] | None = None) -> Validation | None:
    """Judge RUN/validation.

    Args:
        run: the run that the recommendation is of.
        recommendation: the content of RUN/analysis/recommendation.json; a validation of other ranks is left out.

    Returns:
        None when there is none.
    """
    folder = RunFolder(run.path / FOLDER)
    content = folder.analysis("arms")
    if content is None or (recommendation is not None and not _fits(content["plan"], recommendation)):
        return None
    return judge(folder, content)


def judge(folder: RunFolder, content: Mapping[str, Any]) -> Validation:
    """Judge a validation from its folder and the content of its arms.json."""
    plan, rows = content["plan"], content["trials"]
    metric = Metric(str(plan["metric"]), plan["mode"])
    final = {
        (row["arm"], row["seed"]): str(row["adapter"])
        for row in rows
        if row["role"] == "final" and row["status"] == "complete"
    }
    evidence, _ = gather(folder, dict.fromkeys(final.values(), math.nan), "test", metric)
    arms = tuple(_arm(arm, rows, final, evidence) for arm in plan["arms"])
    effects = {kind: _effect(arms, kind, final, evidence, metric) for kind in RIVALS}
    ended = bool(rows) and all(row["status"] != "missing" for row in rows)
    examples = evidence.examples if evidence else 0
    return Validation(metric, float(plan["margin"]), examples, len(plan["seeds"]), arms, effects, ended)


def _fits(plan: Mapping[str, Any], recommendation: Mapping[str, Any]) -> bool:
    ranks = {row["name"]: row["rank"] for row in recommendation["layers"]}
    return bool(plan["trial_id"] == recommendation["trial_id"] and plan["arms"][1]["ranks"] == ranks)


def _arm(
    arm: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    final: Mapping[tuple[str, int], str],
    evidence: Evidence | None,
) -> ArmResult:
    own = [row for row in rows if row["arm"] == arm["name"]]
    found = dict(zip(evidence.trial_ids, evidence.values.tolist(), strict=True)) if evidence else {}
    return ArmResult(
        name=str(arm["name"]),
        kind=str(arm["kind"]),
        parameters=int(arm["parameters"]),
        trained_parameters=int(arm["trained_parameters"]),
        learning_rate=next((float(row["learning_rate"]) for row in own if row["role"] == "final"), math.nan),
        values={seed: found[name] for (label, seed), name in final.items() if label == arm["name"] and name in found},
        failed=sum(row["status"] == "failed" for row in own),
        tokens=sum(int(row["tokens"]) for row in own),
        device_seconds=sum(float(row["device_seconds"]) for row in own),
    )


def _effect(
    arms: Sequence[ArmResult],
    kind: str,
    final: Mapping[tuple[str, int], str],
    evidence: Evidence | None,
    metric: Metric,
) -> Effect | None:
    """Recommended less the mean of the arms of a kind, seed by seed."""
    ours, rivals = arms[1], [arm for arm in arms if arm.kind == kind]
    if evidence is None or not rivals:
        return None
    places = {name: place for place, name in enumerate(evidence.trial_ids)}
    seeds = [seed for seed in ours.values if all(seed in rival.values for rival in rivals)]
    weights = np.zeros((len(places), len(seeds)))
    for column, seed in enumerate(seeds):
        weights[places[final[ours.name, seed]], column] += 1
        for rival in rivals:
            weights[places[final[rival.name, seed]], column] -= 1 / len(rivals)
    weights *= 1 if metric.mode == "max" else -1
    return effect_over_seeds(evidence.values @ weights, evidence.replicates @ weights)

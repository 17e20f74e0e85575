"""What a validation trains: equal parameters, equal effort, the same seeds."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from lora_sweep.records import TrialConfig, TrialRecord
from lora_sweep.store import RunFolder
from lora_sweep.sweep.arms import ValidationPlan, finals, permuted_ranks, plan_validation, tuning
from lora_sweep.sweep.staged import StagedSearch

RANKS = {"a.0": 7, "a.1": 1, "a.2": 0, "b.0": 3, "b.1": 1}
LAYERS = [
    {"name": name, "out": 8 if name < "b" else 16, "in": 8, "uniform_rank": 2, "rank": rank}
    for name, rank in RANKS.items()
]


@pytest.fixture
def plan() -> ValidationPlan:
    trial = TrialConfig(rank=2, alpha=6, target_modules=("a", "b"), learning_rate=4e-3, steps=40, eval_every=20)
    return plan_validation(
        trial, {"trial_id": "t", "layers": LAYERS},
        metric="loss", mode="min", margin=0.01, rates=3, seeds=2, permutations=2, seed=0,
    )  # fmt: skip


def test_every_arm_spends_the_same_and_keeps_the_scaling(plan: ValidationPlan) -> None:
    assert [arm.name for arm in plan.arms] == ["uniform", "recommended", "permuted-1", "permuted-2", "svd"]
    uniform, recommended, *permuted, svd = plan.arms
    assert uniform.parameters == plan.budget == 2 * (3 * 16 + 2 * 24)
    assert {arm.parameters for arm in permuted} == {recommended.parameters}
    assert (svd.parameters, svd.trained_parameters) == (plan.budget, 2 * plan.budget)
    for arm in plan.arms:
        kept = {name: rank for name, rank in arm.ranks.items() if rank}
        assert set(arm.config.target_modules) == set(kept)
        assert {name: arm.config.rank_of(name) for name in kept} == kept
        assert {arm.config.scaling_of(name) for name in kept} == {3.0}


def test_ranks_are_dealt_among_layers_of_one_shape() -> None:
    found = permuted_ranks(LAYERS, 3, seed=1)
    assert len(found) == 3 and len({tuple(one.values()) for one in [RANKS, *found]}) == 4
    for ranks in found:
        for kind in "ab":
            dealt, asked = ([r for n, r in one.items() if n.startswith(kind)] for one in (ranks, RANKS))
            assert Counter(dealt) == Counter(asked)
    assert found == permuted_ranks(LAYERS, 3, seed=1) != permuted_ranks(LAYERS, 3, seed=2)
    # three ranks can be dealt in six ways, one of which is the recommended one
    assert len(permuted_ranks(LAYERS[:3], 99, seed=0)) == 5
    assert permuted_ranks([{**row, "rank": 2} for row in LAYERS], 3, seed=0) == []


def test_every_arm_is_tuned_alike_and_compared_over_the_same_new_seeds(plan: ValidationPlan) -> None:
    tried = tuning(plan)
    assert plan.rates == pytest.approx((2e-3, 4e-3, 8e-3))
    assert Counter(one.arm for one in tried) == dict.fromkeys([arm.name for arm in plan.arms], 3)
    assert {one.candidate.config.seed for one in tried} == {plan.tuning_seed}
    assert plan.tuning_seed not in plan.seeds
    chosen = finals(plan, ended(plan, best=1))
    assert chosen is not None and len({one.candidate.trial_id for one in tried + chosen}) == plan.trials
    for arm in plan.arms:
        own = [one.candidate.config for one in chosen if one.arm == arm.name]
        assert tuple(config.seed for config in own) == plan.seeds
        assert {config.learning_rate for config in own} == {plan.rates[1]}


def ended(plan: ValidationPlan, best: int) -> dict[str, TrialRecord]:
    """Records of all tuning trials; the `best`-th rate of each arm has the lowest loss."""
    return {
        one.candidate.trial_id: TrialRecord(
            trial_id=one.candidate.trial_id, status="complete", config=one.candidate.config,
            metrics={"loss": abs(plan.rates.index(one.candidate.config.learning_rate) - best) + 1.0},
        )
        for one in tuning(plan)
    }  # fmt: skip


def test_an_arm_without_a_complete_tuning_trial_has_no_finals(plan: ValidationPlan) -> None:
    records = ended(plan, best=0)
    for one in tuning(plan):
        if one.arm == "recommended":
            name = one.candidate.trial_id
            records[name] = records[name].model_copy(update={"status": "failed", "metrics": {}})
    chosen = finals(plan, records)
    assert chosen is not None and {one.arm for one in chosen} == {arm.name for arm in plan.arms} - {"recommended"}


def test_the_search_waits_for_the_tuning_trials_and_goes_on_after_a_restart(
    plan: ValidationPlan, tmp_path: Any
) -> None:
    run = RunFolder.create(tmp_path / "run")
    search = StagedSearch(plan, run)
    handed = [search.suggest(str(i)) for i in range(len(tuning(plan)))]
    assert [one["trial_id"] for one in handed] == [one.candidate.trial_id for one in tuning(plan)]
    records = list(ended(plan, best=2).values())
    for record in records[:-1]:
        run.append_record(record)
    assert search.suggest("later") is None
    run.append_record(records[-1])
    search.save(str(tmp_path / "state"))
    again = StagedSearch(plan, run)
    again.restore(str(tmp_path / "state"))
    left = [again.suggest(str(i)) for i in range(plan.trials - len(handed))]
    assert all(one["trial"]["learning_rate"] == plan.rates[2] for one in left)
    assert again.suggest("end") == "FINISHED"

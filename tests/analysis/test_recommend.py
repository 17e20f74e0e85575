"""Ranks placed by measured importance: planted changes are found, and noise is not taken for a difference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lora_sweep.adapters import AdaptedModel, count_parameters
from lora_sweep.analysis.cut import lora_layers, without
from lora_sweep.analysis.directions import measure_slopes
from lora_sweep.analysis.recommend import recommend
from lora_sweep.analysis.recommended_space import recommended_sweep
from lora_sweep.analysis.session import AnalysisSession, open_session
from lora_sweep.errors import InputError, RunFolderError
from lora_sweep.plan import plan_sweep
from lora_sweep.preflight import preflight
from lora_sweep.records import AdapterSpec
from lora_sweep.sweep_file import load_resolved, load_sweep
from lora_sweep.tasks import HOLDOUT

PLANTED = ("model.layers.1.self_attn.o_proj", "model.layers.2.mlp.gate_proj")
UNIFORM = {
    "rank": 2, "alpha": 4, "target_modules": ("o_proj", "gate_proj"), "learning_rate": 1e-2, "batch_size": 32,
    "steps": 200, "eval_every": 100, "stop": 200, "every": 100,
}  # fmt: skip
BUDGET = 2 * (4 * (48 + 48) + 4 * (48 + 96))

PlantedRaw = Callable[[float], dict[str, Any]]


@pytest.mark.slow
def test_planted_changes_are_found(make_run: Any, planted_raw: PlantedRaw) -> None:
    """Two of eight layers need rank 8; a trial of rank 2 everywhere tells which."""
    run = make_run({"t": UNIFORM}, **planted_raw(1.0))
    session = without_judges(open_session(run, "cpu"))
    assert session.holdout_note == "No trial trained on these examples."
    found = recommend(session)
    ranks = {row["name"]: row["rank"] for row in found["layers"]}
    others = [rank for name, rank in ranks.items() if name not in PLANTED]
    assert min(ranks[name] for name in PLANTED) >= 5 > 2 * max(others)
    assert found["check"]["differs"]
    assert found["budget"] == {"asked": BUDGET, "uniform_rank": 2, "parameters": BUDGET}
    assert 0.98 * BUDGET < found["parameters"] <= BUDGET
    assert {**recommend(session), "seconds": 0} == {**found, "seconds": 0}
    assert session.run.analysis("recommendation")


@pytest.mark.slow
def test_where_nothing_is_to_be_learned_the_layers_do_not_differ(make_run: Any, planted_raw: PlantedRaw) -> None:
    run = make_run({"t": UNIFORM}, **planted_raw(0.0))
    assert not recommend(without_judges(open_session(run, "cpu")))["check"]["differs"]


def without_judges(session: AnalysisSession) -> AnalysisSession:
    """The session with the evaluation and test data out of reach."""
    task = session.engine.task
    session.engine.task = replace(task, splits={name: task.splits[name] for name in ("train", HOLDOUT)})
    return session


def test_ranks_alphas_and_parameters_are_what_peft_would_build(session: AnalysisSession) -> None:
    found = recommend(session, "all")
    told = found["adapter"]
    spec = AdapterSpec(
        rank=told["r"],
        alpha=told["lora_alpha"],
        **{name: told[name] for name in ("target_modules", "rank_pattern", "alpha_pattern")},
    )
    kept = {row["name"]: row["rank"] for row in found["layers"] if row["rank"]}
    assert {name: spec.rank_of(name) for name in spec.target_modules} == kept
    assert {spec.scaling_of(name) for name in kept} == {1.0}
    base = session.engine.base
    adapted = AdaptedModel(base.model, base.trained, base.new, base.called)
    assert count_parameters(adapted, spec).lora == found["parameters"] == found["budget"]["parameters"] - found["saved"]


def test_another_budget(session: AnalysisSession) -> None:
    whole = recommend(session, "all")["budget"]
    assert whole["uniform_rank"] == 4
    found = recommend(session, "all", whole["parameters"] // 2 - 1)
    assert found["budget"]["uniform_rank"] == 1 and found["budget"]["parameters"] == whole["parameters"] // 4
    assert found["parameters"] <= whole["parameters"] // 4
    with pytest.raises(InputError, match=r"--parameters: must pay for rank 1 in every layer, .* got 10"):
        recommend(session, "all", 10)


@pytest.mark.parametrize("trial", ["short", "nobody"])
def test_only_complete_trials(session: AnalysisSession, trial: str) -> None:
    with pytest.raises(RunFolderError, match=f"must hold the trial, complete and with LoRA layers, got '{trial}'"):
        recommend(session, trial)


def test_a_small_holdout_is_refused(make_run: Any, sweep_raw: Any) -> None:
    task = sweep_raw()["task"]
    run = make_run({"t": {"rank": 2}}, task={**task, "data": {**task["data"], "holdout": 0.05}})
    with pytest.raises(RunFolderError, match="hold-out of at least 16 examples, got 12"):
        recommend(open_session(run, "cpu"))


def test_the_space_around_a_recommendation_can_be_planned(session: AnalysisSession, tmp_path: Path) -> None:
    found = recommend(session, "all")
    trial = next(record.config for record in session.run.records() if record.trial_id == "all")
    config = recommended_sweep(load_resolved(session.run.sweep_file), trial, found)
    file = tmp_path / "ranks.yaml"
    file.write_text(config.to_yaml())
    again = load_sweep(file)
    assert again == config and again.task.data.holdout == 0
    planned = {row.target_label: row for row in plan_sweep(again, preflight(again, "ranks.yaml").base, "ranks.yaml")}
    assert set(planned) == {"uniform-ranks", "recommended-half", "recommended", "recommended-double"}
    assert planned["recommended"].lora_parameters == found["parameters"]
    assert planned["uniform-ranks"].lora_parameters == found["budget"]["parameters"]
    ranks = sorted(row["rank"] for row in found["layers"] if row["rank"])
    assert planned["recommended"].ranks == f"{ranks[0]} to {ranks[-1]}"
    assert again.resolved_space().possible("learning_rate") == [trial.learning_rate / 2, 2 * trial.learning_rate]


def test_slopes_are_those_of_autograds_gradients(session: AnalysisSession, merged_gradients: Any) -> None:
    adapter = session.adapter("all")
    layers = lora_layers(adapter)
    bare, name = without(adapter, layers), layers[3]
    whole = torch.stack(merged_gradients(session, bare, name))
    halves = np.arange(len(whole))[::2], np.arange(len(whole))[1::2]
    with session.loaded([bare]) as (slot,):
        found = measure_slopes(session, slot, {name: 4}, HOLDOUT, halves)[name]
    for judged, source in ((0, 1), (1, 0)):
        u, _, vh = torch.linalg.svd(whole[halves[source]].mean(dim=0))
        expected = torch.einsum("noi,ok,ki->nk", whole[halves[judged]], u[:, :4], vh[:4])
        np.testing.assert_allclose(found.halves[judged], expected.numpy(), rtol=1e-2, atol=1e-4)

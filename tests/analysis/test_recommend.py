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
from lora_sweep.analysis.cut import decompose, lora_layers, without
from lora_sweep.analysis.directions import measure_slopes, slopes_along
from lora_sweep.analysis.recommend import recommend
from lora_sweep.analysis.recommended_space import recommended_sweep
from lora_sweep.analysis.session import AnalysisSession, open_session
from lora_sweep.errors import InputError, RunFolderError
from lora_sweep.plan import plan_sweep
from lora_sweep.preflight import preflight
from lora_sweep.records import AdapterSpec
from lora_sweep.store import RunFolder
from lora_sweep.sweep_file import load_resolved, load_sweep
from lora_sweep.tasks import HOLDOUT

PLANTED = ("model.layers.1.self_attn.q_proj", "model.layers.2.mlp.gate_proj")
UNIFORM = {
    "rank": 2, "alpha": 4, "target_modules": ("q_proj", "gate_proj"), "learning_rate": 1e-2, "batch_size": 32,
    "steps": 200, "eval_every": 100, "stop": 200,
}  # fmt: skip


def test_planted_changes_are_found(make_run: Any, planted_raw: Callable[[float], dict[str, Any]]) -> None:
    """Two of eight layers need rank 8; a trial of rank 2 everywhere tells which."""
    run = make_run({"t": UNIFORM}, **planted_raw(2.0))
    session = without_judges(open_session(run, "cpu"))
    found = recommend(session)
    ranks = {row["name"]: row["rank"] for row in found["layers"]}
    assert min(ranks[name] for name in PLANTED) > 2 * max(rank for name, rank in ranks.items() if name not in PLANTED)
    assert found["check"]["differs"]
    assert found["budget"] == {"asked": 3840, "uniform_rank": 2, "parameters": 3840}
    assert 0.98 * 3840 < found["parameters"] <= 3840
    assert {**recommend(session), "seconds": 0} == {**found, "seconds": 0}


def test_where_nothing_is_to_be_learned_the_layers_do_not_differ(
    make_run: Any, planted_raw: Callable[[float], dict[str, Any]]
) -> None:
    run = make_run({"t": UNIFORM}, **planted_raw(0.0))
    assert not recommend(without_judges(open_session(run, "cpu")))["check"]["differs"]


def without_judges(session: AnalysisSession) -> AnalysisSession:
    """The session with the evaluation and test data out of reach."""
    task = session.engine.task
    session.engine.task = replace(task, splits={name: task.splits[name] for name in ("train", HOLDOUT)})
    return session

"""Finished runs without Ray: real adapters, outcomes and records of a tiny model."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from lora_sweep.adapters import AdapterFile
from lora_sweep.analysis.session import AnalysisSession, open_session
from lora_sweep.engine.api import EngineOptions
from lora_sweep.engine.engine import Engine
from lora_sweep.engine.report import Reporter
from lora_sweep.models import load_base
from lora_sweep.preflight import preflight
from lora_sweep.records import TrialConfig
from lora_sweep.store import RunFolder
from lora_sweep.sweep_file import parse_sweep
from lora_sweep.tasks import HOLDOUT

TRIALS = {
    "qv": {"rank": 8, "alpha": 16, "target_modules": "attention-qv", "seed": 1},
    "all": {"rank": 4, "alpha": 4, "target_modules": "all-linear", "seed": 2},
    "short": {"rank": 4, "alpha": 4, "target_modules": "attention", "seed": 3, "steps": 30},
}
"""`short` is left before its budget is spent."""


def train(engine: Engine, run: RunFolder, trial_id: str, stop: int = 20, every: int = 10, **config: Any) -> None:
    """Train a trial for `stop` steps, evaluated now and then, and leave its record, adapter and outcomes."""
    defaults = {"steps": 20, "eval_every": 10, "batch_size": 8, "learning_rate": 1e-2}
    reporter = Reporter(engine, run)
    slot = engine.open(trial_id, TrialConfig(**(defaults | config)))
    for _ in range(stop):
        engine.train_step([slot])
        slot.loss_sum += float(slot.losses.pop())
        if slot.step % every == 0:
            reporter.note(slot, engine.evaluate([slot], "eval")[0])
    run.append_record(reporter.record(slot))
    engine.close(slot)


def finished_run(raw: dict[str, Any], folder: Path, trials: dict[str, Any]) -> RunFolder:
    """A run of these trials, 20 steps each; without a hold-out of its own unless `raw` asks for one."""
    task = raw["task"]
    raw = raw | {"task": task | {"data": {"holdout": 0} | task["data"]}}
    config = parse_sweep(raw, "sweep.yaml", folder)
    checked = preflight(config, "sweep.yaml")
    run = RunFolder.create(folder / "run")
    run.sweep_file.write_text(config.to_yaml(), encoding="utf-8")
    metric = config.metric.model_dump(mode="json")
    run.write_info({"name": "tiny", "status": "complete", "metric": metric, **checked.facts})
    base = load_base(config.model, config.task.type, checked.task.labels)
    engine = Engine(base, checked.task, EngineOptions("cpu", 4, 1, config.metric.name, config.metric.mode))
    for trial_id, trial in trials.items():
        train(engine, run, trial_id, **trial)
    return run


@pytest.fixture
def make_run(sweep_raw: Callable[..., dict[str, Any]], tmp_path: Path) -> Callable[..., RunFolder]:
    """A run of these trials; keyword arguments replace keys of its sweep."""

    def make(trials: dict[str, Any], **changes: Any) -> RunFolder:
        return finished_run(sweep_raw(**changes), tmp_path, trials)

    return make


@pytest.fixture(scope="session")
def shared_run(bert_dir: Path, sentiment_files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The run of TRIALS, trained once; to be copied, never written into."""
    raw = {
        "model": {"name": str(bert_dir), "dtype": "float32"},
        "task": {
            "type": "classification", "text": "text", "label": "label", "max_length": 32,
            "data": {part: str(file) for part, file in sentiment_files.items()},
        },
        "space": "quick",
        "budget": {"steps": 20},
    }  # fmt: skip
    return finished_run(raw, tmp_path_factory.mktemp("finished"), TRIALS)


@pytest.fixture
def finished(shared_run: RunFolder, tmp_path: Path) -> RunFolder:
    """A copy of the run of TRIALS."""
    return RunFolder(Path(shutil.copytree(shared_run.path, tmp_path / "copy")))


@pytest.fixture
def session(finished: RunFolder) -> AnalysisSession:
    return open_session(finished, "cpu", slots=3, holdout_examples=64)


@pytest.fixture
def merged_gradients() -> Callable[[AnalysisSession, AdapterFile, str], list[torch.Tensor]]:
    return _merged_gradients


def _merged_gradients(session: AnalysisSession, adapter: AdapterFile, layer: str) -> list[torch.Tensor]:
    """The gradient of each hold-out example's mean loss at a layer's merged weight, by autograd: [out, in] each."""
    with session.loaded([adapter]) as (slot,):
        session.engine.adapted.merge(slot.number)
        with session.engine.adapted.plain():
            model = session.engine.base.model
            weight = model.get_submodule(layer).weight.requires_grad_()
            split = session.engine.task.splits[HOLDOUT]
            gradients = []
            for i in range(len(split)):
                rows = split.rows(np.array([i]), int(split.lengths[i]), 0)
                logits = model(input_ids=torch.from_numpy(rows.token_ids)).logits
                if rows.labels is not None:
                    loss = cross_entropy(logits, torch.from_numpy(rows.labels))
                else:
                    scored = torch.from_numpy(rows.scored)[0, 1:]
                    loss = cross_entropy(logits[0, :-1][scored], torch.from_numpy(rows.token_ids)[0, 1:][scored])
                (gradient,) = torch.autograd.grad(loss, weight)
                gradients.append(gradient if "c_" not in layer else gradient.T)
            weight.requires_grad_(False)
        session.engine.adapted.unmerge()
    return gradients


@pytest.fixture
def causal_raw(text_files: dict[str, Path]) -> Callable[[Path], dict[str, Any]]:
    def make(model: Path) -> dict[str, Any]:
        data = {part: str(file) for part, file in text_files.items()}
        task = {"type": "causal-lm", "data": data, "prompt": "prompt", "response": "response", "max_length": 40}
        return {"model": {"name": str(model), "dtype": "float32"}, "task": task}

    return make

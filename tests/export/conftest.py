"""Finished runs without Ray whose trials have what finalists have: test figures and answers on the test part."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lora_sweep.engine.api import EngineOptions
from lora_sweep.engine.engine import Engine
from lora_sweep.engine.report import Reporter, metrics_of
from lora_sweep.models import load_base
from lora_sweep.preflight import preflight
from lora_sweep.records import TrialConfig
from lora_sweep.store import RunFolder
from lora_sweep.sweep_file import parse_sweep
from lora_sweep.tasks import outcomes_frame

DEFAULTS = {"rank": 4, "alpha": 8, "steps": 8, "eval_every": 4, "batch_size": 8, "learning_rate": 1e-2, "seed": 1}


def train(engine: Engine, run: RunFolder, trial_id: str, config: TrialConfig, until: int) -> None:
    """Train a trial and leave its record, adapter and answers, as a sweep does."""
    reporter = Reporter(engine, run)
    slot = engine.open(trial_id, config)
    while slot.step < until:
        engine.train_step([slot])
        slot.loss_sum += float(slot.losses.pop())
        if slot.step in config.evaluations():
            reporter.note(slot, engine.evaluate([slot], "eval")[0])
    run.append_record(reporter.record(slot))
    engine.close(slot)


def score_finalist(engine: Engine, run: RunFolder, trial_id: str) -> dict[str, Any]:
    """A finalist's row; its answers on test are written."""
    scores, split = engine.score(run.adapter_dir(trial_id), "test"), engine.task.splits["test"]
    frame = outcomes_frame(split, 0, logits=scores.logits, nll_sum=scores.nll_sum, tokens=scores.targets)
    run.write_outcomes(trial_id, frame)
    metrics = metrics_of(engine.task, "test", scores)
    return {"trial_id": trial_id, "metrics": {"test": metrics}, "examples": len(split)}


@pytest.fixture
def make_run(sweep_raw: Callable[..., dict[str, Any]], tmp_path: Path) -> Callable[..., RunFolder]:
    """A run with the trial `000-t`; `trial` changes its configuration, other keywords the sweep."""

    def make(
        trial: dict[str, Any] | None = None, until: int | None = None, finalist: bool = True, **changes: Any
    ) -> RunFolder:
        config = parse_sweep(sweep_raw(**changes), "sweep.yaml", tmp_path)
        checked = preflight(config, "sweep.yaml")
        run = RunFolder.create(tmp_path / "run")
        run.sweep_file.write_text(config.to_yaml(), encoding="utf-8")
        metric = config.metric.model_dump(mode="json")
        run.write_info({"name": "tiny", "status": "complete", "metric": metric, **checked.facts})
        base = load_base(config.model, config.task.type, checked.task.labels)
        judged = config.metric
        options = EngineOptions(
            "cpu", 4, 1, judged.name, judged.mode, judged.keep, base_dropout=config.training.base_dropout
        )
        engine = Engine(base, checked.task, options)
        settings = TrialConfig(**(DEFAULTS | {"target_modules": "attention-qv"} | (trial or {})))
        train(engine, run, "000-t", settings, until or settings.steps)
        if finalist:
            run.write_analysis("finalists", {"top": 1, "rows": [score_finalist(engine, run, "000-t")]})
        return run

    return make


@pytest.fixture
def causal(text_files: dict[str, Path]) -> Callable[..., dict[str, Any]]:
    """Keys of a sweep over prompts and responses; keyword arguments replace keys of its task."""

    def make(folder: Path, **task: Any) -> dict[str, Any]:
        data = {part: str(file) for part, file in text_files.items()}
        known = {"type": "causal-lm", "data": data, "prompt": "prompt", "response": "response", "max_length": 32}
        space = {"rank": 2, "target_modules": "all-linear", "learning_rate": 1e-3, "batch_size": 8}
        return {"model": {"name": str(folder), "dtype": "float32"}, "task": known | task, "space": space}

    return make

"""Run folders for the reports: synthetic records in, real files out."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lora_sweep.records import Cost, EvalPoint, TrialConfig, TrialRecord
from lora_sweep.store import RunFolder

MakeRecord = Callable[..., TrialRecord]
MakeRun = Callable[..., RunFolder]


def build_record(
    trial_id: str = "t01",
    quality: float | None = 0.8,
    *,
    status: str = "complete",
    metric: str = "accuracy",
    parameters: int = 50_000,
    reached: int = 200,
    error: str | None = None,
    cost: Mapping[str, Any] | None = None,
    **config: Any,
) -> TrialRecord:
    config = {"rank": 8, "alpha": 16.0, "target_label": "attention-qv", "steps": 200, "eval_every": 50} | config
    history = [
        EvalPoint(
            step=step,
            metrics={"loss": 2.0 - step / 150, metric: quality * (1 - 0.3 * math.exp(-step / 60))},
            train_loss=2.2 - step / 130,
            tokens=step * 300,
            device_seconds=step * 0.1,
        )
        for step in range(50, reached + 1, 50)
        if quality is not None
    ]
    return TrialRecord(
        trial_id=trial_id,
        status=status,
        config=TrialConfig(**config),
        metrics={} if quality is None else {"loss": 0.5, metric: quality},
        step=reached,
        history=tuple(history),
        trainable_parameters=parameters,
        adapter_parameters=parameters,
        base_parameters=22_700_000,
        adapter_bytes=4 * parameters,
        tokens=reached * 300,
        cost=Cost(**({"wall_seconds": 99.0, "device_seconds": reached * 0.1} | dict(cost or {}))),
        error=error,
    )


def build_info(**changes: Any) -> dict[str, Any]:
    info: dict[str, Any] = {
        "schema_version": 1,
        "name": "emotions on MiniLM",
        "status": "complete",
        "started": "2026-03-01T10:00:00+00:00",
        "ended": "2026-03-01T10:09:42+00:00",
        "wall_seconds": 582.0,
        "versions": {"lora_sweep": "0.1.0", "python": "3.12.3", "torch": "2.11.0", "ray": "2.52.0"},
        "commit": "0123abcd",
        "devices": [
            {"engine": 0, "device": "cpu", "dtype": "float32", "slots": 8, "threads": 2, "busy_seconds": 540.2,
             "peak_memory_bytes": 912_000_000},
        ],
        "seed": 0,
        "command": "lora-sweep run sweep.yaml",
        "model": {"name": "all-MiniLM-L6-v2", "path": "/models/minilm", "sha256": "ab" * 32, "parameters": 22_700_000,
                  "dtype": "float32"},
        "task": {"type": "classification", "labels": ["anger", "joy", "sadness"]},
        "data": {
            "parts": {
                part: {"path": f"data/{part}.csv", "sha256": digit * 64, "examples": n}
                for part, digit, n in (("train", "1", 2400), ("eval", "2", 512), ("test", "3", 600))
            },
            "notes": ["3 examples stand in both train and eval."],
        },
        "metric": {"name": "accuracy", "mode": "max", "keep": "best"},
        "search": {"algorithm": "random", "trials": 16, "seed": 0},
        "scheduler": {"type": "asha"},
        "budget": {"steps": 200, "eval_every": 50},
        "trials": {"planned": 16, "complete": 11, "stopped": 4, "failed": 1},
    }  # fmt: skip
    return info | changes


BASELINES = {
    "rows": [
        {"name": "majority class", "metrics": {"eval": {"accuracy": 0.41}, "test": {"accuracy": 0.40}},
         "trainable_parameters": 0, "adapter_bytes": None, "device_seconds": None, "note": "always joy"},
        {"name": "untouched base", "metrics": {"eval": {"accuracy": 0.39}, "test": {"accuracy": 0.385}},
         "trainable_parameters": 0, "adapter_bytes": None, "device_seconds": 1.2, "note": ""},
        {"name": "head only", "metrics": {"eval": {"accuracy": 0.742}, "test": {"accuracy": 0.735}},
         "trainable_parameters": 1155, "adapter_bytes": 4900, "device_seconds": 9.0, "note": ""},
    ]
}  # fmt: skip


@pytest.fixture
def make_info() -> Callable[..., dict[str, Any]]:
    return build_info


@pytest.fixture
def baselines() -> dict[str, Any]:
    return BASELINES


@pytest.fixture
def make_record() -> MakeRecord:
    return build_record


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    def make(
        records: Sequence[TrialRecord] = (),
        info: Mapping[str, Any] | None = None,
        baselines: Mapping[str, Any] | None = None,
        tested: Mapping[str, float] | None = None,
        name: str = "run",
    ) -> RunFolder:
        run = RunFolder.create(tmp_path / name)
        run.write_info(build_info() if info is None else info)
        for record in records:
            run.append_record(record)
        if baselines is not None:
            run.write_analysis("baselines", baselines)
        if tested is not None:
            metric = run.info().get("metric", {}).get("name", "accuracy")
            rows = [{"trial_id": i, "metrics": {"test": {metric: v}}, "examples": 600} for i, v in tested.items()]
            run.write_analysis("finalists", {"top": len(rows), "rows": rows})
        return run

    return make


def sixteen_records() -> list[TrialRecord]:
    """A sweep as it comes out: eleven complete, four stopped, one failed."""
    rng = random.Random(7)
    sizes = {"attention-qv": 9216, "attention": 18432, "all-linear": 50688}
    records = []
    for i in range(16):
        rank, label, rate = rng.choice([2, 4, 8, 16, 32]), rng.choice(list(sizes)), 10 ** rng.uniform(-4, -2.5)
        quality = 0.80 + 0.018 * math.log2(rank) - 0.05 * abs(math.log10(rate) + 3) + rng.gauss(0, 0.008)
        status = "failed" if i == 13 else "stopped" if i % 4 == 1 and i else "complete"
        reached = {"failed": 50, "stopped": rng.choice([50, 100]), "complete": 200}[status]
        records.append(
            build_record(
                f"t{i:02d}",
                None if status == "failed" else quality - (0.1 if status == "stopped" else 0),
                status=status,
                reached=reached,
                rank=rank,
                alpha=float(rank * rng.choice([1, 2])),
                dropout=rng.choice([0.0, 0.05, 0.1]),
                target_label=label,
                learning_rate=rate,
                parameters=rank * sizes[label] // 2 + 1155,
                cost={
                    "device_seconds": reached * (0.12 + rank / 400),
                    "solo_seconds": reached * (0.21 + rank / 600),
                    "solo_source": "probed",
                },
                error="NonFiniteLossError: the loss became NaN at step 57" if status == "failed" else None,
            )
        )
    return records


@pytest.fixture
def full_run(make_run: MakeRun) -> RunFolder:
    records = sixteen_records()
    best = sorted((r for r in records if r.status == "complete"), key=lambda r: -r.metrics["accuracy"])[:3]
    run = make_run(records, None, BASELINES, {r.trial_id: r.metrics["accuracy"] - 0.012 for r in best})
    run.sweep_file.write_text("model: {name: all-MiniLM-L6-v2}\nspace: attention\nbudget: {steps: 200}\n")
    return run


HIT_LABELS = np.arange(400) % 3


def build_hits(right: int, split: str = "eval", step: int = 200, shift: int = 0) -> pd.DataFrame:
    """The first `right` of the examples, turned by `shift`, are right: equal shifts make nested answers."""
    hits = np.roll(np.arange(400) < right, shift)
    predictions = np.where(hits, HIT_LABELS, (HIT_LABELS + 1) % 3)
    names = [f"{split}:{i}" for i in range(400)]
    frame = pd.DataFrame({"example_id": names, "split": split, "step": step, "label": HIT_LABELS})
    return frame.assign(prediction=predictions, logits=list(np.eye(3, dtype=np.float32)[predictions]))


@pytest.fixture
def outcomes() -> Callable[..., pd.DataFrame]:
    return build_hits


@pytest.fixture
def make_tied(make_run: MakeRun, make_record: MakeRecord, make_info: Callable[..., Any]) -> MakeRun:
    """Three that cannot be told from the best, `d` clearly worse, `s` stopped; `b` is the cheapest of the tie set."""

    def make(tested: Any = None, baselines: Any = None, **changes: Any) -> RunFolder:
        rights = {"a": (340, 90_000, 0), "b": (334, 5_000, 20), "c": (336, 20_000, 15), "d": (250, 900, 0)}
        records = [
            make_record(name, right / 400, parameters=parameters, learning_rate=1e-3 + parameters * 1e-9)
            for name, (right, parameters, _) in rights.items()
        ]
        records.append(make_record("s", 0.95, status="stopped", reached=50, parameters=100))
        run = make_run(records, make_info(**changes), baselines, tested)
        for name, (right, _, shift) in rights.items():
            run.write_outcomes(name, build_hits(right, shift=shift))
        run.write_outcomes("s", build_hits(380, step=50))
        return run

    return make


@pytest.fixture
def add_cuts() -> Callable[..., None]:
    """Adds cuts of trials to a run: name to right answers of 400, how they are turned, and parameters."""

    def add(run: RunFolder, cuts: Mapping[str, tuple[int, int, int]], **changes: Any) -> None:
        trials: dict[str, dict[str, Any]] = {}
        for name, (right, shift, parameters) in cuts.items():
            source, _, how = name.partition("@")
            amount = float(how.lstrip("-abcdefghijklmnopqrstuvwxyz"))
            method = {"rank": "uniform", "energy": "global-energy"}.get(how.rstrip("0123456789"), "layer-energy")
            ranks = {"l0": int(amount), "l1": int(amount)} if method == "uniform" else {"l0": 1, "l1": 3}
            cut = {
                "name": name, "method": method, "amount": amount if method == "uniform" else amount / 100,
                "ranks": ranks, "energy": 0.9, "metrics": {"accuracy": right / 400, "loss": 0.5},
                "parameters": parameters, "adapter_parameters": parameters - 100, "adapter_bytes": 4 * parameters,
            }  # fmt: skip
            trials.setdefault(source, {"trial_id": source, "recorded": {}, "cuts": []})["cuts"].append(cut | changes)
            run.write_outcomes(name, build_hits(right, shift=shift))
        content = {"metric": "accuracy", "mode": "max", "split": "eval", "examples": 400}
        run.write_analysis("rank_curves", content | {"trials": list(trials.values())})

    return add


@pytest.fixture
def add_latency() -> Callable[..., None]:
    """Adds unmerged latencies in milliseconds to a run, by trial; quartiles lie a tenth away."""

    def add(run: RunFolder, milliseconds: Mapping[str, float]) -> None:
        def row(variant: str, size: int, value: float) -> dict[str, Any]:
            times = {"median_seconds": value, "quartile_1_seconds": 0.9 * value, "quartile_3_seconds": 1.1 * value}
            return {"variant": variant, "batch_size": size, **times}

        trials = [
            {
                "trial_id": name,
                "rows": [
                    row(variant, size, times * value / 1000)
                    for size in (32, 1)
                    for variant, times in (("base", 0.5 * size), ("unmerged", 1.0 * size), ("merged", 0.5 * size))
                ],
            }
            for name, value in milliseconds.items()
        ]
        run.write_analysis("latency", {"device": "cpu", "dtype": "float32", "passes": 30, "trials": trials})

    return add

"""Run folders of any size with made-up results: what a sweep under ASHA leaves, without training anything.

Of the trials 20 % are complete, 75 % were stopped after one to four of five evaluations, 5 % failed. Accuracy grows
with the rank, falls off around a learning rate of 1e-3 and approaches its end exponentially; the leading complete
trials have outcomes that give exactly the accuracy on record.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from lora_sweep.records import Cost, EvalPoint, TrialConfig, TrialRecord
from lora_sweep.store import RunFolder

STEPS, EVERY, EXAMPLES, LABELS = 500, 100, 1000, ("negative", "neutral", "positive")
RANKS, SIZES = (1, 2, 4, 8, 16, 32, 64), {"attention-qv": 9216, "attention": 18432, "all-linear": 50688}
ERRORS = (
    "NonFiniteLossError: the loss became NaN at step 57",
    "OutOfMemoryError: not even one row fits the device",
)
COMPARED, FINALISTS = 256, 3


def write_run(path: Path, trials: int, seed: int = 0) -> RunFolder:
    """Make a run folder at `path`, which must not exist yet, with `trials` records."""
    rng = np.random.default_rng(seed)
    run = RunFolder.create(path)
    records = list(_records(trials, rng))
    # in one piece: append_record would flush every line to the disk
    lines = "".join(record.model_dump_json() + "\n" for record in records)
    (run.path / "trials.jsonl").write_text(lines, encoding="utf-8")
    run.sweep_file.write_text("model: {name: simulated}\nspace: attention\n", encoding="utf-8")
    complete = sorted((one for one in records if one.status == "complete"), key=lambda one: -one.metrics["accuracy"])
    difficulty = {part: rng.permutation(EXAMPLES) for part in ("eval", "test")}
    labels = {part: rng.integers(len(LABELS), size=EXAMPLES) for part in ("eval", "test")}
    tested = []
    for place, record in enumerate(complete[:COMPARED]):
        accuracy = {"eval": record.metrics["accuracy"]}
        if place < FINALISTS:
            accuracy["test"] = round((record.metrics["accuracy"] - 0.012) * EXAMPLES) / EXAMPLES
            tested.append(
                {"trial_id": record.trial_id, "metrics": {"test": {"accuracy": accuracy["test"]}}, "examples": EXAMPLES}
            )
        parts = [
            _outcomes(part, value, labels[part], difficulty[part], record.step if part == "eval" else 0, rng)
            for part, value in accuracy.items()
        ]
        run.write_outcomes(record.trial_id, pd.concat(parts, ignore_index=True))
    run.write_analysis("finalists", {"top": FINALISTS, "rows": tested})
    run.write_analysis("baselines", {"rows": [_baseline()]})
    run.write_info(_info(trials, records))
    return run


def _records(trials: int, rng: np.random.Generator) -> Iterator[TrialRecord]:
    for number in range(trials):
        status = "failed" if number % 20 == 7 else "complete" if number % 5 == 0 else "stopped"
        evaluations = {"failed": 0, "complete": 5, "stopped": int(rng.choice([1, 1, 1, 1, 2, 2, 3, 4]))}[status]
        yield _record(f"{number:05d}-{rng.integers(16**6):06x}", status, evaluations, rng)


def _record(trial_id: str, status: str, evaluations: int, rng: np.random.Generator) -> TrialRecord:
    rank, label = int(rng.choice(RANKS)), str(rng.choice(list(SIZES)))
    rate = float(10 ** rng.uniform(-4, -2))
    end = 0.74 + 0.015 * math.log2(rank) - 0.06 * abs(math.log10(rate) + 3) + rng.normal(0, 0.012)
    steps = [EVERY * (i + 1) for i in range(evaluations)]
    history = tuple(_point(step, end, rate, rank, rng) for step in steps)
    last = history[-1] if history else None
    parameters = rank * SIZES[label] // 2 + 1155
    seconds = last.device_seconds if last else 4.0
    return TrialRecord(
        trial_id=trial_id,
        status=status,
        config=TrialConfig(
            rank=rank,
            alpha=float(rank * rng.choice([1, 2])),
            dropout=float(rng.choice([0.0, 0.05, 0.1])),
            target_modules=label,
            target_label=label,
            learning_rate=rate,
            seed=int(rng.integers(2**31)),
            steps=STEPS,
            eval_every=EVERY,
        ),
        metrics=last.metrics if last else {},
        step=last.step if last else 0,
        history=history,
        trainable_parameters=parameters,
        adapter_parameters=parameters - 1155,
        base_parameters=22_714_371,
        adapter_bytes=4 * parameters + 3000,
        tokens=last.tokens if last else 9000,
        cost=Cost(
            wall_seconds=4 * seconds,
            device_seconds=seconds,
            solo_seconds=1.7 * seconds,
            solo_source="probed",
            state_bytes=16 * parameters,
            peak_memory_bytes=1_200_000_000,
        ),
        error=str(rng.choice(ERRORS)) if status == "failed" else None,
    )


def _point(step: int, end: float, rate: float, rank: int, rng: np.random.Generator) -> EvalPoint:
    reached = end - 0.3 * math.exp(-step / 120) + rng.normal(0, 0.004)
    accuracy = round(min(0.99, max(0.3, reached)) * EXAMPLES) / EXAMPLES
    return EvalPoint(
        step=step,
        metrics={"accuracy": accuracy, "macro_f1": accuracy - 0.03, "loss": 1.6 - accuracy},
        train_loss=1.7 - accuracy + rng.normal(0, 0.02),
        learning_rate=rate * (1 - step / STEPS),
        tokens=step * 420,
        wall_seconds=0.5 * step,
        device_seconds=step * (0.12 + rank / 400),
    )


def _outcomes(
    part: str,
    accuracy: float,
    labels: np.ndarray,
    difficulty: np.ndarray,
    step: int,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Outcomes with exactly this accuracy: the easiest examples are right, up to some luck of the trial's own."""
    order = np.argsort(difficulty + rng.normal(0, EXAMPLES / 12, EXAMPLES))
    hits = np.zeros(EXAMPLES, dtype=bool)
    hits[order[: round(accuracy * EXAMPLES)]] = True
    predictions = np.where(hits, labels, (labels + 1) % len(LABELS))
    logits = np.eye(len(LABELS))[predictions] * 2.0 + rng.normal(0, 0.3, (EXAMPLES, 1))
    return pd.DataFrame(
        {
            "example_id": [f"{part}:{i}" for i in range(EXAMPLES)],
            "split": part,
            "step": step,
            "label": labels,
            "prediction": predictions,
            "logits": list(logits.astype(np.float32)),
        }
    )


def _baseline() -> dict[str, object]:
    metrics = {"eval": {"accuracy": 0.45}, "test": {"accuracy": 0.453}}
    return {"name": "majority", "metrics": metrics, "trainable_parameters": 0, "note": "always neutral"}


def _info(trials: int, records: list[TrialRecord]) -> dict[str, object]:
    counts = {status: sum(one.status == status for one in records) for status in ("complete", "stopped", "failed")}
    parts = {part: {"examples": number} for part, number in (("train", 20_000), ("eval", EXAMPLES), ("test", EXAMPLES))}
    return {
        "schema_version": 1,
        "name": f"{trials:,} simulated trials",
        "status": "complete",
        "started": "2026-03-01T10:00:00+00:00",
        "ended": "2026-03-02T10:00:00+00:00",
        "wall_seconds": 86_400.0,
        "model": {"name": "simulated", "parameters": 22_714_371, "dtype": "float32"},
        "task": {"type": "classification", "labels": list(LABELS)},
        "data": {"parts": parts},
        "metric": {"name": "accuracy", "mode": "max", "keep": "last"},
        "search": {"algorithm": "random", "trials": trials, "seed": 0},
        "scheduler": {"type": "asha"},
        "budget": {"steps": STEPS, "eval_every": EVERY},
        "trials": {"planned": trials, **counts},
    }

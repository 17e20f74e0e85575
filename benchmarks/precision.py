"""The same trials trained in fp32 and in bf16: what bf16 costs in quality, paired by configuration and seed.

    python benchmarks/precision.py [--seeds 8] [--steps 60] [--output benchmarks/results/precision.json]

MiniLM on the demo's tweets. Both precisions start from the same weights and see the same examples and dropout masks, so
that a pair differs by rounding alone. Every figure is on the test part (1,000 examples), after the last step, in the
precision that the trial trained in: nothing is picked by it. A pack of one seed in one
precision is a slice; slices that the output holds already are not run again, so that the work can be done in parts:
`--slices 1` runs one.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from scipy import stats

from lora_sweep.demo import demo_sweep
from lora_sweep.engine.api import EngineOptions
from lora_sweep.engine.engine import Engine
from lora_sweep.engine.report import metrics_of
from lora_sweep.model_files import load_tokenizer
from lora_sweep.models import load_base
from lora_sweep.records import TrialConfig
from lora_sweep.sweep_file import parse_sweep
from lora_sweep.tasks import prepare_task

DTYPES = ("float32", "bfloat16")
CONFIGURATIONS: list[dict[str, Any]] = [
    {"rank": 4, "alpha": 8.0, "target_modules": "attention-qv", "learning_rate": 5e-3},
    {"rank": 16, "alpha": 32.0, "target_modules": "all-linear", "learning_rate": 2e-3, "dropout": 0.05},
]
"""Within the demo's space, at rates that train well."""


def main() -> None:
    """Run the slices that are missing, and write the summary."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--slices", type=int, help="run at most so many slices")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "precision.json")
    options = parser.parse_args()
    done = json.loads(options.output.read_text(encoding="utf-8"))["rows"] if options.output.exists() else []
    had = {(row["seed"], row["dtype"]) for row in done}
    missing = [(seed, dtype) for seed in range(options.seeds) for dtype in DTYPES if (seed, dtype) not in had]
    for seed, dtype in missing[: options.slices]:
        done += run_slice(seed, dtype, options.steps)
        write(options.output, done, options.steps)
        print(f"seed {seed} in {dtype} done", flush=True)
    for about, figures in summarise(done).items():
        print(about, figures)


def run_slice(seed: int, dtype: str, steps: int) -> list[dict[str, Any]]:
    """Train every configuration with one seed in one precision, in one pack."""
    with tempfile.TemporaryDirectory() as folder:
        config = parse_sweep(demo_sweep(Path(folder) / "data"), "demo", Path(folder))
        task = prepare_task(config.task, load_tokenizer(config.model), 0)
    base = load_base(config.model.model_copy(update={"dtype": dtype}), "classification", task.labels)
    engine = Engine(base, task, EngineOptions("cpu", len(CONFIGURATIONS), torch.get_num_threads(), "accuracy", "max"))
    slots = [
        engine.open(str(number), TrialConfig(**changes, seed=seed, steps=steps, batch_size=16))
        for number, changes in enumerate(CONFIGURATIONS)
    ]
    for _ in range(steps):
        engine.train_step(slots)
    scores = engine.evaluate(slots, "test")
    facts = {"seed": seed, "dtype": dtype}
    return [{"configuration": number, **facts, **metrics_of(task, "test", one)} for number, one in enumerate(scores)]


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Accuracy and loss over all whole pairs, and over those of each configuration."""
    found: dict[str, Any] = {}
    for about, chosen in {"all": None, **{f"configuration {n}": n for n in range(len(CONFIGURATIONS))}}.items():
        part = [row for row in rows if chosen in (None, row["configuration"])]
        found[about] = {name: compare(part, name) for name in ("accuracy", "loss")}
    return found


def compare(rows: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """bf16 less fp32 over the pairs, with Student's 95 % interval of the mean difference."""
    value = {(row["configuration"], row["seed"], row["dtype"]): row[name] for row in rows}
    pairs = [(n, s) for n, s, dtype in value if dtype == "bfloat16" and (n, s, "float32") in value]
    if len(pairs) < 2:
        return {"pairs": len(pairs)}
    ours, theirs = (np.array([value[(*pair, dtype)] for pair in pairs]) for dtype in ("bfloat16", "float32"))
    difference = ours - theirs
    half = float(stats.t.ppf(0.975, len(pairs) - 1) * difference.std(ddof=1) / len(pairs) ** 0.5)
    mean = float(difference.mean())
    return {
        "pairs": len(pairs),
        "fp32": float(theirs.mean()),
        "bf16": float(ours.mean()),
        "difference": mean,
        "interval": [mean - half, mean + half],
        "differences": difference.round(4).tolist(),
    }


def write(output: Path, rows: list[dict[str, Any]], steps: int) -> None:
    """All that was measured so far."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent)
    result = {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit.stdout.strip(),
        "device": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads",
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "settings": {"steps": steps, "batch_size": 16, "configurations": CONFIGURATIONS},
        "summary": summarise(rows),
        "rows": rows,
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""One trial's rank curve by cutting its update, beside ranks trained directly: quality and time of both.

    python benchmarks/rank_curve.py [--seeds 2] [--rank 32] [--steps 120] [--output benchmarks/results/rank_curve.json]

MiniLM on the demo's tweets (4,000 to train on, 1,000 to test on), LoRA on query and value, alpha = 2 rank, one learning
rate for all. For each seed a trial of the highest rank is trained and cut at 1, 2, 4, ...; then those ranks are
trained themselves, one at a time. Every figure is on the test part, after the last step: nothing is picked by it.
Times are CPU seconds of this process, so that other work on the machine does not count.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import transformers

from lora_sweep.adapters import AdapterFile, read_adapter
from lora_sweep.analysis.rank_curve import plan_cuts
from lora_sweep.analysis.session import AnalysisSession, Evaluation
from lora_sweep.demo import demo_sweep
from lora_sweep.engine.api import EngineOptions
from lora_sweep.engine.engine import Engine
from lora_sweep.model_files import load_tokenizer
from lora_sweep.models import load_base
from lora_sweep.records import TrialConfig
from lora_sweep.store import RunFolder
from lora_sweep.sweep_file import parse_sweep
from lora_sweep.tasks import prepare_task
from reports.statistics import wilson

SHARES = (0.9,)


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "rank_curve.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        session = make_session(Path(folder))
        seeds = [measure(session, options, seed) for seed in range(options.seeds)]
    settings = {"rank": options.rank, "steps": options.steps, "learning_rate": options.rate, "alpha": "2 x rank"}
    result = {
        "settings": {
            **settings,
            "batch_size": 16,
            "target_modules": "attention-qv",
            "test_examples": examples(session),
        },
        **session.facts(),
        **circumstances(),
        "summary": summarise(seeds, examples(session)),
        "seeds": seeds,
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    show(result)


def make_session(folder: Path) -> AnalysisSession:
    """The demo's base and data on an engine."""
    config = parse_sweep(demo_sweep(folder / "data"), "demo", folder)
    task = prepare_task(config.task, load_tokenizer(config.model), 0)
    base = load_base(config.model, "classification", task.labels)
    chosen = EngineOptions("cpu", 8, torch.get_num_threads(), "accuracy", "max", keep="last")
    return AnalysisSession(RunFolder.create(folder / "run"), Engine(base, task, chosen))


def examples(session: AnalysisSession) -> int:
    """Of the test part."""
    return len(session.engine.task.splits["test"])


def measure(session: AnalysisSession, options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """One seed: train the highest rank, cut it, and train the lower ranks."""
    adapter, train_seconds = train(session, options, options.rank, seed)
    started = time.process_time()
    cuts = plan_cuts("t", adapter, SHARES)
    plan_seconds = time.process_time() - started
    uniform = [one for one in cuts if one.method == "uniform"]
    others = [one for one in cuts if one.method != "uniform"]
    found, uniform_seconds = evaluate(session, {one.name: one.adapter for one in uniform})
    rest, _ = evaluate(session, {one.name: one.adapter for one in others})
    found |= rest
    rows = [
        {"name": one.name.removeprefix("t@"), "method": one.method, "amount": one.amount, **facts(found[one.name])}
        for one in cuts
    ]
    rows[0] |= {"name": f"rank{options.rank}", "train_seconds": train_seconds}
    direct = []
    for rank in [int(one.amount) for one in reversed(uniform)]:
        trained, seconds = train(session, options, rank, seed)
        reached, evaluate_seconds = evaluate(session, {"t": trained})
        times = {"train_seconds": seconds, "evaluate_seconds": evaluate_seconds}
        direct.append({"rank": rank, **times, **facts(reached["t"])})
    print(f"seed {seed} done", file=sys.stderr, flush=True)
    times = {"plan_seconds": plan_seconds, "uniform_seconds": uniform_seconds}
    return {"seed": seed, **times, "cuts": rows, "trained": direct}


def evaluate(session: AnalysisSession, adapters: dict[str, AdapterFile]) -> tuple[dict[str, Evaluation], float]:
    """What the adapters reach on the test part, and the CPU seconds that it took."""
    started = time.process_time()
    return session.evaluate(adapters, "test"), time.process_time() - started


def train(session: AnalysisSession, options: argparse.Namespace, rank: int, seed: int) -> tuple[AdapterFile, float]:
    """An adapter of this rank after its last step, and the CPU seconds that its steps took."""
    config = TrialConfig(
        rank=rank, alpha=2 * rank, target_modules="attention-qv", learning_rate=options.rate, batch_size=16, seed=seed,
        steps=options.steps, eval_every=options.steps,
    )  # fmt: skip
    slot = session.engine.open("t", config)
    started = time.process_time()
    while not slot.done:
        session.engine.train_step([slot])
    seconds = time.process_time() - started
    with tempfile.TemporaryDirectory() as folder:
        session.engine.save(slot, Path(folder))
        adapter = read_adapter(Path(folder))
    session.engine.close(slot)
    return adapter, seconds


def facts(found: Evaluation) -> dict[str, Any]:
    """What is kept of an evaluation."""
    return {
        "accuracy": found.metrics["accuracy"],
        "loss": found.metrics["loss"],
        "lora_parameters": found.lora_parameters,
    }


def summarise(seeds: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """Cut and trained side by side, over the seeds; an energy cut that equals another one is missing from a seed."""
    table = []
    for name in dict.fromkeys(row["name"] for seed in seeds for row in seed["cuts"]):
        cuts = [row for seed in seeds for row in seed["cuts"] if row["name"] == name]
        uniform = cuts[0]["method"] == "uniform"
        trained = [row for seed in seeds for row in seed["trained"] if uniform and row["rank"] == cuts[0]["amount"]]
        table.append(
            {
                "name": name,
                "cut": accuracies([row["accuracy"] for row in cuts], count),
                "lora_parameters": [row["lora_parameters"] for row in cuts],
                "trained": accuracies([row["accuracy"] for row in trained], count),
                "train_seconds": [row["train_seconds"] for row in trained],
            }
        )
    return table


def accuracies(values: list[float], count: int) -> dict[str, Any] | None:
    """Each with its 95 % Wilson interval, and their mean; None without any."""
    if not values:
        return None
    return {"mean": sum(values) / len(values), "values": values, "wilson_95": [wilson(v, count) for v in values]}


def circumstances() -> dict[str, Any]:
    """Date, commit, machine and versions."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True)
    cpu = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit.stdout.strip(),
        "cpu": cpu[0] if cpu else platform.processor(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    }


def show(result: dict[str, Any]) -> None:
    """The table, for the terminal."""

    def text(found: dict[str, Any] | None) -> str:
        if found is None:
            return "-"
        low, high = found["wilson_95"][0]
        return f"{found['values'][0]:.3f} [{low:.3f}, {high:.3f}] mean {found['mean']:.3f}"

    for row in result["summary"]:
        print(
            f"{row['name']:16} {row['lora_parameters'][0]:>8} | cut {text(row['cut'])} | trained {text(row['trained'])}"
        )
    for seed in result["seeds"]:
        direct = sum(d["train_seconds"] + d["evaluate_seconds"] for d in seed["trained"])
        cutting = seed["plan_seconds"] + seed["uniform_seconds"]
        whole = seed["cuts"][0]["train_seconds"]
        print(
            f"seed {seed['seed']}: rank {result['settings']['rank']} trained in {whole:.1f} s; lower ranks: "
            f"cut and evaluated {cutting:.1f} s, trained and evaluated {direct:.1f} s"
        )


if __name__ == "__main__":
    main()

"""How long a sweep takes with `lora-sweep run`, beside Ray Tune with PEFT and Transformers' Trainer (`recipe.py`).

    pip install -e ".[demo,bench]"
    python benchmarks/sweep_recipe.py [--repeats 2] [--dropout 0 0.05] [--lock FILE] [--output FILE.json]

all-MiniLM-L6-v2 on tweets (`lora_sweep.demo`), 8 given configurations, 60 optimizer steps of 16 examples each, an
evaluation with a checkpoint every 20 steps; the same rows, optimizer, schedule and clipping on both sides, both in
processes of their own, from their start to their end. The recipe runs in its fastest set-up on this machine: how many
trials at once, and whether Tune keeps their processes, is measured first. `lora-sweep run` goes through its command
line, without a scheduler; its baselines and the scoring on test data, which the recipe has not, are timed apart.

`equal`: the base in fp32 on both sides. `defaults`: each side's own default, which for the recipe is fp32 and for
lora_sweep bf16 where the hardware has it. `bf16`: the recipe with `bf16=True` beside that.
"""

from __future__ import annotations

import argparse
import csv
import fcntl
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from statistics import fmean, median
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT)]
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.pop("OMP_NUM_THREADS", None)  # Ray gives every process as many threads as it claims cores
from sweep_recipe_table import say  # noqa: E402  the path must be there before
from watched_sweep import run_sweep  # noqa: E402

from lora_sweep.demo import demo_sweep  # noqa: E402

STEPS, EVERY, BATCH, EVAL_BATCH, WARMUP_STEPS, EVAL_ROWS = 60, 20, 16, 64, 6, 300
ATTENTION = ["query", "key", "value", "attention.output.dense"]
TARGETS = {
    "attention-qv": ["query", "value"],
    "attention": ATTENTION,
    "all-linear": [*ATTENTION, "intermediate.dense", "output.dense"],
}
"""Groups of lora_sweep, and the same layers as PEFT is told of them."""
CANDIDATES = (
    ("attention-qv", 4, 8, 2e-3),
    ("attention-qv", 16, 32, 3e-3),
    ("attention", 2, 4, 5e-3),
    ("attention", 8, 16, 2e-3),
    ("attention", 16, 16, 4e-3),
    ("all-linear", 4, 8, 2e-3),
    ("all-linear", 8, 8, 3e-3),
    ("all-linear", 16, 32, 1.5e-3),
)
"""Targets, rank, alpha, learning rate."""
SETUPS = {
    f"{trials} x {threads}{', processes kept' if kept else ''}": {"cpus": threads, "reuse_actors": kept}
    for trials, threads in ((os.cpu_count() or 1, 1), (1, os.cpu_count() or 1))
    for kept in (False, True)
}
"""Trials at once x threads of each, and whether a trial's process is kept for the next one (`reuse_actors`)."""
SIDES: dict[str, dict[str, Any]] = {
    "lora_sweep fp32": {"dtype": "float32"},
    "lora_sweep": {"dtype": "auto"},
    "recipe fp32": {"bf16": False},
    "recipe bf16": {"bf16": True},
}
VARIANTS = {
    "equal": ("lora_sweep fp32", "recipe fp32"),
    "defaults": ("lora_sweep", "recipe fp32"),
    "bf16": ("lora_sweep", "recipe bf16"),
}


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--dropout", type=float, nargs="+", default=[0.0, 0.05], help="of LoRA, one variant each")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--setup", choices=SETUPS, help="of the recipe; by default all are tried once")
    parser.add_argument("--lock", type=Path, help="hold this file's lock (flock) during each run, on a shared machine")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "sweep_recipe.json")
    arguments = parser.parse_args()
    bench = Bench(arguments.lock)
    first = arguments.dropout[0]
    tried = {} if arguments.setup else {name: bench.recipe(first, name, bf16=False)["seconds"] for name in SETUPS}
    setup = arguments.setup or min(tried, key=lambda name: tried[name])
    runs: dict[str, dict[str, list[Any]]] = {str(p): {side: [] for side in arguments.sides} for p in arguments.dropout}
    measured = {**_description(), "setups_seconds": tried, "setup": setup, "runs": runs}
    for _ in range(arguments.repeats):
        for dropout in arguments.dropout:
            for side in arguments.sides:
                runs[str(dropout)][side].append(bench.run(side, dropout, setup))
                _write(measured, arguments.output)  # what stands is not lost when a later run fails
    say(measured)


class Bench:
    """Runs either side once.

    Args:
        lock: a file whose lock is held during each run; None for none.
    """

    def __init__(self, lock: Path | None) -> None:
        self._lock = lock

    def run(self, side: str, dropout: float, setup: str) -> dict[str, Any]:
        """A side of `SIDES`: seconds, phases, and what each trial reached."""
        if "dtype" in SIDES[side]:
            return self.sweep(dropout, **SIDES[side])
        return self.recipe(dropout, setup, **SIDES[side])

    def sweep(self, dropout: float, dtype: str) -> dict[str, Any]:
        """`lora-sweep run`."""
        with self._folder() as (folder, sweep):
            run, seen = run_sweep(_sweep_file(sweep, dropout, dtype), folder)
            records = [json.loads(line) for line in (run / "trials.jsonl").read_text().splitlines()]
            device = json.loads((run / "run.json").read_text())["devices"][0]
        apart = {"baselines": seen["test"] - seen["baselines"], "test": seen["complete"] - seen["test"]}
        busy = sum(record["cost"]["device_seconds"] for record in records)
        return {
            "seconds": seen["exit"] - sum(apart.values()),
            "phases": {
                "start, data, Ray": seen["engines"],
                "engine start, base": seen["search"] - seen["engines"],
                "train, evaluate": busy,
                "between": seen["search ended"] - seen["search"] - busy,
                "end of search": seen["baselines"] - seen["search ended"],
                "stop, report": seen["exit"] - seen["complete"],
            },
            "apart": apart,
            "stages": seen,
            "precision": device["dtype"],
            "trials": {record["config"]["target_label"]: _of_sweep(record) for record in records},
        }

    def recipe(self, dropout: float, setup: str, bf16: bool) -> dict[str, Any]:
        """`recipe.py`."""
        with self._folder() as (folder, sweep):
            data = sweep["task"]["data"]
            settings = {
                "model": sweep["model"]["name"], "train": data["train"], "eval": data["eval"],
                "labels": _labels(data["train"]), "max_length": sweep["task"]["max_length"], "steps": STEPS,
                "batch_size": BATCH, "eval_batch_size": EVAL_BATCH, "eval_every": EVERY, "warmup_steps": WARMUP_STEPS,
                "candidates": _candidates(dropout), "bf16": bf16, "storage": str(folder / "storage"), **SETUPS[setup],
            }  # fmt: skip
            files = [folder / "settings.json", folder / "results.json"]
            files[0].write_text(json.dumps(settings))
            command = [sys.executable, str(ROOT / "benchmarks" / "recipe.py"), *map(str, files)]
            began, start = time.time(), time.perf_counter()
            environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}  # else Ray writes a token into the home folder
            done = subprocess.run(command, capture_output=True, text=True, env=environment)
            seconds = time.perf_counter() - start
            if done.returncode != 0:
                sys.exit(f"the recipe failed:\n{done.stderr[-3000:]}")
            results = json.loads(files[1].read_text())
        at_once = (os.cpu_count() or 1) // SETUPS[setup]["cpus"]
        return {
            "seconds": seconds,
            "phases": _recipe_phases(results, began, seconds, at_once),
            "trials": {trial["name"]: _of_recipe(trial) for trial in results["trials"]},
        }

    @contextmanager
    def _folder(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """A folder with the data, and the demo's sweep on it; the lock is held."""
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
            folder = Path(name)
            sweep = demo_sweep(folder / "data")
            evaluation = Path(sweep["task"]["data"]["eval"])
            rows = evaluation.read_text(encoding="utf-8").splitlines(keepends=True)
            evaluation.write_text("".join(rows[: EVAL_ROWS + 1]), encoding="utf-8")
            with self._held():
                yield folder, sweep

    @contextmanager
    def _held(self) -> Iterator[None]:
        if self._lock is None:
            yield
            return
        with self._lock.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _candidates(dropout: float) -> list[dict[str, Any]]:
    """The configurations as the recipe takes them."""
    return [
        {
            "name": f"{label} r{rank} a{alpha} {rate:g}", "target_modules": TARGETS[label], "rank": rank,
            "alpha": alpha, "learning_rate": rate, "dropout": dropout, "seed": number,
        }
        for number, (label, rank, alpha, rate) in enumerate(CANDIDATES)
    ]  # fmt: skip


def _sweep_file(demo: dict[str, Any], dropout: float, dtype: str) -> dict[str, Any]:
    """The same as SWEEP.yaml: a grid over the trials' seeds, each of which brings the other keys along."""
    listed = [
        {
            "value": candidate["seed"],
            "with": {"target_modules": {candidate["name"]: label}, "rank": rank, "alpha": alpha, "learning_rate": rate},
        }
        for candidate, (label, rank, alpha, rate) in zip(_candidates(dropout), CANDIDATES, strict=True)
    ]
    return {
        "model": {**demo["model"], "dtype": dtype},
        "task": {**demo["task"], "data": {**demo["task"]["data"], "holdout": 0}},
        "space": {"seed": listed, "dropout": dropout, "batch_size": BATCH},
        "search": {"algorithm": "grid"},
        "scheduler": {"type": "fifo"},
        "budget": {"steps": STEPS, "eval_every": EVERY},
        "training": {"schedule": "linear", "warmup": WARMUP_STEPS / STEPS, "clip": 1.0, "weight_decay": 0.0},
        "finalists": {"top": 1},
    }


def _labels(file: str) -> list[str]:
    with Path(file).open(encoding="utf-8", newline="") as stream:
        return sorted({row["sentiment"] for row in csv.DictReader(stream)})


def _recipe_phases(results: dict[str, Any], began: float, seconds: float, at_once: int) -> dict[str, float]:
    """Wall seconds of each phase: what the trials spent in it, divided by how many run at once."""
    clocks = [trial["clock"] for trial in results["trials"]]
    phases = {
        "start, data, Ray": results["began"] - began,
        "model": sum(clock["load"] for clock in clocks) / at_once,
        "train": sum(clock["train"] for clock in clocks) / at_once,
        "evaluate": sum(clock["evaluate"] for clock in clocks) / at_once,
        "checkpoint, report to Tune": sum(clock["save"] + clock["report"] for clock in clocks) / at_once,
        "end": began + seconds - max(clock["ended"] for clock in clocks),
    }
    return phases | {"between (processes, imports)": seconds - sum(phases.values())}


def _of_sweep(record: dict[str, Any]) -> dict[str, float]:
    last = record["history"][-1]
    return {
        "accuracy": last["metrics"]["accuracy"],
        "loss": last["metrics"]["loss"],
        "train_loss": fmean(point["train_loss"] for point in record["history"]),
        "trainable_parameters": record["trainable_parameters"],
    }


def _of_recipe(trial: dict[str, Any]) -> dict[str, float]:
    return {
        "accuracy": trial["eval_accuracy"],
        "loss": trial["eval_loss"],
        "train_loss": fmean(trial["clock"]["train_losses"]),
        "trainable_parameters": trial["trainable_parameters"],
    }


def _description() -> dict[str, Any]:
    packages = ("torch", "transformers", "peft", "accelerate", "ray", "datasets", "numpy")
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True)
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return {
        "device": {"processor": model, "cores": os.cpu_count()},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit.stdout.strip(),
        "versions": {"python": platform.python_version(), **{name: metadata.version(name) for name in packages}},
        "settings": {
            "steps": STEPS, "eval_every": EVERY, "batch_size": BATCH, "eval_rows": EVAL_ROWS, "max_length": 40,
            "candidates": [candidate["name"] for candidate in _candidates(0)],
        },
        "variants": {name: list(sides) for name, sides in VARIANTS.items()},
    }  # fmt: skip


def _write(measured: dict[str, Any], file: Path) -> None:
    measured["makespan"] = {
        dropout: {side: _spread([run["seconds"] for run in runs]) for side, runs in sides.items() if runs}
        for dropout, sides in measured["runs"].items()
    }
    measured["ratio"] = {
        dropout: {name: _ratio(sides, *pair) for name, pair in VARIANTS.items() if all(map(sides.get, pair))}
        for dropout, sides in measured["runs"].items()
    }
    file.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")


def _spread(seconds: Sequence[float]) -> dict[str, float]:
    return {"median": median(seconds), "min": min(seconds), "max": max(seconds)}


def _ratio(sides: dict[str, list[Any]], ours: str, recipe: str) -> dict[str, float]:
    """Of the makespans' medians; the extremes are those of any run of one side by any of the other."""
    pairs = [one["seconds"] / other["seconds"] for one in sides[recipe] for other in sides[ours]]
    middle = median(one["seconds"] for one in sides[recipe]) / median(one["seconds"] for one in sides[ours])
    return {"median": middle, "min": min(pairs), "max": max(pairs)}


if __name__ == "__main__":
    main()

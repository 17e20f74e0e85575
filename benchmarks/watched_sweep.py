"""`lora-sweep run` under watch: when its stages begin, seen in the run folder's files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
COMMAND = "import sys; from lora_sweep.cli import main; sys.exit(main())"
POLL_SECONDS = 0.05


def run_sweep(sweep: Mapping[str, Any], folder: Path) -> tuple[Path, dict[str, float]]:
    """Run `lora-sweep run` in a process of its own.

    Args:
        sweep: the content of SWEEP.yaml.
        folder: where it and the run folder go.

    Returns:
        The run folder, and the seconds from the start of the process to the beginning of every stage, and to `exit`.
    """
    file, run = folder / "sweep.yaml", folder / "run"
    file.write_text(yaml.safe_dump(dict(sweep)), encoding="utf-8")
    command = [sys.executable, "-c", COMMAND, "run", str(file), "--output", str(folder), "--name", run.name]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (folder / "output.txt").open("w") as output:
        start = time.perf_counter()
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        seen: dict[str, float] = {}
        while process.poll() is None:
            now = time.perf_counter() - start
            seen |= {stage: now for stage in STAGES if stage not in seen and STAGES[stage](run)}
            time.sleep(POLL_SECONDS)
        seen["exit"] = time.perf_counter() - start
    if process.returncode != 0:
        sys.exit(f"lora-sweep run failed:\n{(folder / 'output.txt').read_text()}")
    return run, seen


def _engines_stand(run: Path) -> bool:
    return bool(_read(run / "run.json").get("devices"))


def _trials_train(run: Path) -> bool:
    return any((run / "adapters").glob("0*/adapter_model.safetensors"))


def _trials_ended(run: Path) -> bool:
    file = run / "trials.jsonl"
    planned = _read(run / "run.json").get("trials", {}).get("planned")
    return file.exists() and file.read_bytes().count(b"\n") == planned


def _is_complete(run: Path) -> bool:
    return _read(run / "run.json").get("status") == "complete"


def _read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text()) if file.exists() else {}


STAGES = {
    "run folder": lambda run: (run / "sweep.yaml").exists(),
    "engines": lambda run: any((run / "tune").glob("order-*.pkl")),
    "search": _engines_stand,
    "first evaluation": _trials_train,
    "search ended": _trials_ended,
    "baselines": lambda run: (run / "analysis" / "finalists.json").exists(),
    "test": lambda run: (run / "analysis" / "baselines.json").exists(),
    "complete": _is_complete,
    "report": lambda run: (run / "report.html").exists(),
}
"""What is there once a stage has begun, or (complete, report) has ended."""

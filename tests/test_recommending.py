"""`lora-sweep recommend` on the planted case, trained through Ray: the verdict must be what is true there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lora_sweep.cli import app
from lora_sweep.preflight import preflight
from lora_sweep.store import RunFolder
from lora_sweep.sweep.driver import run_sweep
from lora_sweep.sweep_file import parse_sweep

SPACE = {
    "rank": 2, "alpha": {"times_rank": 2}, "target_modules": {"o-gate": ["o_proj", "gate_proj"]},
    "learning_rate": 1e-2, "batch_size": 32,
}  # fmt: skip


def swept(raw: dict[str, Any], folder: Path) -> RunFolder:
    """One uniform trial of rank 2, by a real sweep."""
    config = parse_sweep(
        raw | {"space": SPACE, "search": {"trials": 1}, "scheduler": {"type": "fifo"}, "budget": {"steps": 200}},
        "sweep.yaml",
        folder,
    )
    checked = preflight(config, "sweep.yaml")
    run = RunFolder.create(folder / "run")
    run_sweep(config, checked.task, run, facts=checked.facts)
    return run


def recommended(*arguments: object) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["recommend", *map(str, arguments), "--json", "--device", "cpu"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.mark.slow
def test_planted_ranks_are_better(planted_raw: Any, tmp_path: Path) -> None:
    run = swept(planted_raw(1.0), tmp_path)
    found = recommended(run.path, "--validate", "--seeds", 3, "--permutations", 2, "--rates", 1)
    validation = found["validation"]
    assert validation["verdict"] == "better"
    effects = validation["effects"]
    assert effects["uniform"]["bounds"][0] > 0.02 and effects["permuted"]["bounds"][0] > 0.02
    assert [len(effect["gains"]) for effect in effects.values()] == [3, 3, 3]
    uniform, ours, *_, svd = validation["arms"]
    assert abs(ours["parameters"] / uniform["parameters"] - 1) < 0.02
    assert svd["trained_parameters"] == 2 * uniform["parameters"]
    folder = RunFolder(run.path / "validation")
    assert len(folder.records()) == 5 * (1 + 3)
    before = (folder.path / "trials.jsonl").read_bytes()
    again = recommended(run.path, "--validate", "--seeds", 3, "--permutations", 2, "--rates", 1)
    assert again["validation"] == validation and (folder.path / "trials.jsonl").read_bytes() == before
    other = CliRunner().invoke(app, ["recommend", str(run.path), "--validate", "--seeds", "4", "--device", "cpu"])
    assert "must be a validation of the same recommendation" in str(other.exception)

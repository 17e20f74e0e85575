"""Bad input: exit code 2, one message on stderr (place, rule, value, fix), nothing on stdout, no half-made run."""

from __future__ import annotations

import copy
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from lora_sweep import cli
from lora_sweep.records import Cost, EvalPoint, TrialConfig, TrialRecord
from lora_sweep.store import RunFolder


@dataclass
class Place:
    """A folder with a sweep and its data; texts in `{}` in expected messages are its paths."""

    folder: Path
    raw: dict[str, Any]
    bert: Path

    def write(self, changes: dict[str, Any]) -> Path:
        raw = copy.deepcopy(self.raw)
        for path, value in changes.items():
            *outer, last = path.split(".")
            inner = raw
            for key in outer:
                inner = inner[key]
            inner[last] = value
        file = self.folder / "sweep.yaml"
        file.write_text(yaml.safe_dump(raw))
        return file


@pytest.fixture
def place(tmp_path, monkeypatch, sweep_raw, sentiment_files, bert_dir):
    for part, file in sentiment_files.items():
        shutil.copy(file, tmp_path / f"{part}.csv")
    raw = sweep_raw()
    raw["task"]["data"] = {part: f"{part}.csv" for part in sentiment_files}
    monkeypatch.chdir(tmp_path)
    return Place(tmp_path, raw, bert_dir)


@pytest.fixture
def call(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["lora-sweep", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return ended.value.code, out, err

    return run


@pytest.fixture
def refused():
    """Holds what `call` returned to exit code 2, one message and nothing on stdout."""

    def check(result, message):
        code, out, err = result
        assert (code, out) == (2, "")
        assert err == f"error: {message}\n"

    return check


@pytest.fixture
def run(place):
    """A finished run of two trials, made by hand."""
    folder = RunFolder.create(place.folder / "run")
    metric = {"name": "accuracy", "mode": "max", "keep": "best"}
    folder.write_info({"status": "complete", "metric": metric, "data": {"parts": {"eval": {"examples": 80}}}})
    for number, parameters in enumerate((1000, 5000)):
        point = EvalPoint(step=8, metrics={"accuracy": 0.5 + number / 10, "loss": 0.6})
        folder.append_record(
            TrialRecord(
                trial_id=f"00{number}-abc", status="complete", config=TrialConfig(steps=8), metrics=point.metrics,
                step=8, history=(point,), trainable_parameters=parameters,
                cost=Cost(wall_seconds=1.0, device_seconds=1.0),
            )
        )  # fmt: skip
    return folder

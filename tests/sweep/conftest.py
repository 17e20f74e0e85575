"""Whole sweeps of a tiny model on a local Ray."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from lora_sweep.config import SweepConfig
from lora_sweep.model_files import load_tokenizer
from lora_sweep.records import TrialConfig, TrialRecord
from lora_sweep.store import RunFolder
from lora_sweep.sweep.cluster import ray_cluster
from lora_sweep.sweep_file import parse_sweep
from lora_sweep.tasks import EncodedTask, prepare_task


@dataclass
class Sweep:
    config: SweepConfig
    task: EncodedTask
    run: RunFolder


@dataclass
class Diary:
    """A listener that remembers."""

    stages: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    trials: int = 0
    begun: list[str] = field(default_factory=list)
    reports: list[TrialRecord] = field(default_factory=list)
    ends: list[TrialRecord] = field(default_factory=list)
    on_report: Callable[[TrialRecord], None] = lambda record: None

    def stage(self, text: str) -> None:
        self.stages.append(text)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def planned(self, trials: int) -> None:
        self.trials = trials

    def started(self, trial_id: str, config: TrialConfig) -> None:
        self.begun.append(trial_id)

    def reported(self, record: TrialRecord) -> None:
        self.reports.append(record)
        self.on_report(record)

    def ended(self, record: TrialRecord) -> None:
        self.ends.append(record)


@pytest.fixture
def make_sweep(sweep_raw: Callable[..., dict[str, Any]], tmp_path: Path) -> Callable[..., Sweep]:
    numbers = itertools.count()

    def make(**changes: Any) -> Sweep:
        config = parse_sweep(sweep_raw(**changes), "sweep.yaml", tmp_path)
        task = prepare_task(config.task, load_tokenizer(config.model), seed=config.search.seed)
        return Sweep(config, task, RunFolder.create(tmp_path / f"run-{next(numbers)}"))

    return make


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """One Ray for several sweeps: a sweep uses the one that is there."""
    with ray_cluster(None):
        yield


@pytest.fixture
def diary() -> Diary:
    return Diary()

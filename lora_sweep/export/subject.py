"""What is exported: a trial's adapter, or a cut of it, and what the run says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_sweep.config import ModelConfig
from lora_sweep.errors import RunFolderError
from lora_sweep.records import TrialRecord
from lora_sweep.store import RunFolder, check_made_here
from reports.metric import Metric, read_metric

_CUTS = {
    "uniform": "cut to rank {amount:g}",
    "global-energy": "cut to the largest singular values that hold {share:g} % of its update's energy",
    "layer-energy": "cut in every layer to {share:g} % of the layer's energy",
}


@dataclass(frozen=True)
class Subject:
    """An adapter of a run.

    Attributes:
        run: its run.
        name: of the adapter: a trial's id, or `TRIAL@rank4` for a cut.
        info: the content of run.json.
        record: the trial's; for a cut that of the trial it was cut from.
        cut: the cut's row in RUN/analysis/rank_curves.json; None for a trial's own adapter.
    """

    run: RunFolder
    name: str
    info: Mapping[str, Any]
    record: TrialRecord
    cut: Mapping[str, Any] | None = None

    @property
    def adapter(self) -> Path:
        return self.run.adapter_dir(self.name)

    @property
    def title(self) -> str:
        """`trial 009-a1df30` or `trial 009-a1df30 cut to rank 4`."""
        trial = f"trial {self.record.trial_id}"
        if self.cut is None:
            return trial
        amount = float(self.cut["amount"])
        return f"{trial} {_CUTS[str(self.cut['method'])].format(amount=amount, share=100 * amount)}"

    @property
    def task(self) -> Mapping[str, Any]:
        """As run.json records it."""
        task: Mapping[str, Any] = self.info["task"]
        return task

    def source_of(self, part: str) -> str:
        """From which part `part` was set aside."""
        has_eval = (self.task.get("data") or {}).get("eval") is not None
        return "eval" if part == "test" and has_eval else "train"

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self.task.get("labels") or ())

    @property
    def metric(self) -> Metric:
        """What the run judged by."""
        return read_metric(self.info, self.record.metrics)

    @property
    def run_dtype(self) -> str:
        """In which the run computed; what was asked for where it does not say."""
        devices = self.info.get("devices") or [{}]
        return str(devices[0].get("dtype") or self.info["model"].get("dtype") or "auto")

    @property
    def model_config(self) -> ModelConfig:
        """The base, as the run found it."""
        model = self.info["model"]
        keys = ("name", "dtype", "trust_remote_code", "revision")
        values = {key: model[key] for key in keys if model.get(key) is not None}
        return ModelConfig(**values | {"name": model.get("path") or model["name"]})

    def recorded_metrics(self, part: str) -> Mapping[str, float]:
        """The run's own figures of this adapter on `eval` or `test`; empty where it has none."""
        if part == "eval":
            found: Mapping[str, float] = self.record.metrics if self.cut is None else self.cut["metrics"]
            return found
        rows = (self.run.analysis("finalists") or {}).get("rows") or ()
        return next((row["metrics"].get(part, {}) for row in rows if row["trial_id"] == self.name), {})


def read_subject(run: RunFolder, name: str) -> Subject:
    """Find an adapter of a run.

    Args:
        run: the run.
        name: a trial's id, or the name of a cut.

    Raises:
        RunFolderError: it left no adapter, the run does not tell what it is, or was imported.
    """
    check_made_here(run)
    source = run.adapter_dir(name)
    if not source.is_dir():
        raise RunFolderError(str(source), "must hold the trial's adapter; it is not there", None, "Pick another trial.")
    trial_id = name.partition("@")[0]
    record = next((one for one in run.records() if one.trial_id == trial_id), None)
    if record is None:
        raise RunFolderError(f"{run.path}/trials.jsonl", f"must hold a record of {trial_id}", None, "Pick a trial.")
    return Subject(run, name, run.info(), record, None if name == trial_id else _cut(run, trial_id, name))


def _cut(run: RunFolder, trial_id: str, name: str) -> Mapping[str, Any]:
    curves = (run.analysis("rank_curves") or {}).get("trials") or ()
    rows = (row for curve in curves if curve["trial_id"] == trial_id for row in curve["cuts"])
    found: Mapping[str, Any] | None = next((row for row in rows if row["name"] == name), None)
    if found is None or found["method"] not in _CUTS:
        place, fix = f"{run.path}/analysis/rank_curves.json", "Run `lora-sweep analyze` again."
        raise RunFolderError(place, f"must tell how {name} was cut", None, fix)
    return found

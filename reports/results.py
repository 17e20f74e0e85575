"""One reading of a run folder, which everything else in this package works on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from lora_sweep.store import RunFolder
from reports.frame import build_baseline_frame, build_points_frame, build_trial_frame, finite, run_info, run_metric
from reports.metric import Metric


@dataclass(frozen=True)
class Results:
    """A run as it stood when it was read.

    Attributes:
        path: the run folder.
        metric: the run's quality metric.
        trials, points, baselines: see `trial_frame`, `points_frame`, `baseline_frame`.
        info: the content of run.json, any part of which may be missing.
        sweep: the text of sweep.yaml; empty when there is none.
    """

    path: Path
    metric: Metric
    trials: pd.DataFrame
    points: pd.DataFrame
    baselines: pd.DataFrame
    info: Mapping[str, Any] = field(default_factory=dict)
    sweep: str = ""

    def section(self, *keys: str) -> Mapping[str, Any]:
        """A part of run.json, e.g. `section("data", "parts")`; empty when it is missing or no mapping."""
        part: Any = self.info
        for key in keys:
            part = part.get(key) if isinstance(part, Mapping) else None
        return part if isinstance(part, Mapping) else {}

    def examples(self, part: str) -> int | None:
        """How many examples a part of the data has; None when the run does not say."""
        value = finite(self.section("data", "parts", part).get("examples"))
        return int(value) if value >= 1 else None

    def with_status(self, *statuses: str) -> pd.DataFrame:
        """The trials with one of these statuses."""
        return self.trials[self.trials["status"].isin(statuses)]

    def ranked(self, status: str = "complete") -> pd.DataFrame:
        """The trials with this status that have a metric, best first; equals by fewer parameters, then by id."""
        return sort_by_quality(self.with_status(status), self.metric)


def read_results(run: RunFolder | Results) -> Results:
    """Read a run folder once; what was read already passes through."""
    if isinstance(run, Results):
        return run
    info, records = run_info(run), run.records()
    metric = run_metric(info, records)
    sweep = run.sweep_file.read_text(encoding="utf-8") if run.sweep_file.is_file() else ""
    return Results(
        path=run.path,
        metric=metric,
        trials=build_trial_frame(records, run.analysis("finalists"), metric),
        points=build_points_frame(records, metric),
        baselines=build_baseline_frame(run.analysis("baselines"), metric),
        info=info,
        sweep=sweep,
    )


def sort_by_quality(frame: pd.DataFrame, metric: Metric, keys: Sequence[str] = ("trial_id",)) -> pd.DataFrame:
    """Rows with a quality, best first; equals by fewer trainable parameters, then by `keys`."""
    known = frame[frame["quality"].notna()]
    order = [metric.mode == "min", True, *(True for _ in keys)]
    return known.sort_values(["quality", "trainable_parameters", *keys], ascending=order, kind="stable")

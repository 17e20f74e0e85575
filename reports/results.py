"""One reading of a run folder, which everything else in this package works on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from lora_sweep.store import RunFolder
from reports.frame import build_baseline_frame, build_points_frame, build_trial_frame, finite, run_info, run_metric
from reports.metric import Metric
from reports.statistics import Comparison, Evidence, Outcomes, TieSet, compare, gather, interval

MOST_COMPARED = 256
"""How many leading trials are compared example by example: the comparison grows with their square."""


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

    @cached_property
    def evidence(self) -> Mapping[str, tuple[Evidence | None, Outcomes]]:
        """What the outcomes of `eval` (leading complete trials) and of `test` (finalists) say, by part."""
        leading = self.ranked("complete").head(MOST_COMPARED)
        tested = self.trials[self.trials["test_quality"].notna()].head(MOST_COMPARED)
        run, steps = RunFolder(self.path), _pairs(leading[leading["step"].notna()], "step")
        return {
            "eval": gather(run, _pairs(leading, "quality"), "eval", self.metric, steps),
            "test": gather(run, _pairs(tested, "test_quality"), "test", self.metric),
        }

    def ties(self, trials: pd.DataFrame | None = None) -> TieSet | None:
        """The tie set of some complete trials, by default of all that have a metric.

        None where outcomes are absent, and where those of the best are: the others then say nothing about the best.
        """
        pool = self.ranked("complete") if trials is None else trials
        evidence = self.evidence["eval"][0]
        if evidence is None or pool.empty or pool["trial_id"].iloc[0] not in evidence.trial_ids:
            return None
        return evidence.ties([str(name) for name in pool["trial_id"]])

    @cached_property
    def tied(self) -> frozenset[str] | None:
        """The complete trials that cannot be told from the best; None where that is not known."""
        found = self.ties()
        return None if found is None else frozenset(found.member_ids)

    @cached_property
    def finalist_intervals(self) -> Mapping[str, tuple[float, float]]:
        """Test intervals that hold for all finalists at once; empty without outcomes."""
        evidence = self.evidence["test"][0]
        return {} if evidence is None else evidence.simultaneous(evidence.trial_ids)

    def interval(
        self, part: str, trial_id: str, value: float, examples: int | None = None
    ) -> tuple[float, float] | None:
        """The 95 % interval of one adapter's metric, from its outcomes or else from the number of examples.

        On `test` it holds for all finalists at once.
        """
        evidence = self.evidence[part][0]
        known = self.finalist_intervals if part == "test" else {}
        own = known.get(trial_id) or (evidence.interval(trial_id) if evidence else None)
        return own or interval(self.metric, value, examples or self.examples(part))

    def compare(self, first: Mapping[str, Any], second: Mapping[str, Any]) -> Comparison:
        """Two trials on the evaluation data, example by example where both have outcomes."""
        evidence = self.evidence["eval"][0]
        found = evidence.compare(str(first["trial_id"]), str(second["trial_id"])) if evidence else None
        return found or compare(self.metric, first["quality"], second["quality"], self.examples("eval"))

    def beside_baseline(
        self, row: Mapping[str, Any], baseline: Mapping[str, Any], examples: int | None
    ) -> Comparison | None:
        """A trial and a baseline on the test data; None where one of them was not measured there."""
        values = {str(row["trial_id"]): row["test_quality"], str(baseline["outcomes_id"]): baseline["test_quality"]}
        if any(pd.isna(value) for value in values.values()) or len(values) < 2:
            return None
        evidence, _ = gather(RunFolder(self.path), values, "test", self.metric)
        found = evidence.compare(*values) if evidence else None
        return found or compare(self.metric, row["test_quality"], baseline["test_quality"], examples)


def _pairs(trials: pd.DataFrame, column: str) -> dict[str, Any]:
    return dict(zip(trials["trial_id"].astype(str), trials[column], strict=True))


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

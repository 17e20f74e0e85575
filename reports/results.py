"""One reading of a run folder, which everything else in this package works on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from lora_sweep.store import RunFolder
from reports.candidates import candidate_frame
from reports.frame import (
    build_baseline_frame,
    build_points_frame,
    build_trial_frame,
    finite,
    run_info,
    run_metric,
    tested_rows,
)
from reports.metric import Metric
from reports.statistics import Comparison, Evidence, Outcomes, TieSet, compare, gather, interval

MOST_COMPARED = 1024
"""How many leading candidates are compared example by example. Beyond them nothing was tested: time grows with the
square of the number (4 seconds for 1,024 on one core) and memory with its product with the examples."""


@dataclass(frozen=True)
class Results:
    """A run as it stood when it was read.

    Attributes:
        path: the run folder.
        metric: the run's quality metric.
        trials, points, baselines: see `trial_frame`, `points_frame`, `baseline_frame`; without repeats.
        repeats: the trials that train a finalist's configuration again with another seed: no candidates of their own.
        candidates: complete and stopped trials and the cuts of complete ones, see `candidate_frame`.
        info: the content of run.json, any part of which may be missing.
        sweep: the text of sweep.yaml; empty when there is none.
    """

    path: Path
    metric: Metric
    trials: pd.DataFrame
    points: pd.DataFrame
    baselines: pd.DataFrame
    repeats: pd.DataFrame
    candidates: pd.DataFrame
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

    @property
    def finalists(self) -> pd.DataFrame:
        """The trials whose configurations were trained again, best first."""
        ranked = self.ranked("complete")
        return ranked[ranked["trial_id"].isin(self.repeats["repeat_of"])]

    def comparable(self, status: str = "complete") -> pd.DataFrame:
        """The candidates with this status that have a metric, best first; equals by fewer parameters, then by id."""
        return sort_by_quality(self.candidates[self.candidates["status"] == status], self.metric)

    @property
    def has_cuts(self) -> bool:
        """Whether cut adapters are among the candidates."""
        return bool((self.candidates["kind"] == "cut").any())

    @cached_property
    def evidence(self) -> Mapping[str, tuple[Evidence | None, Outcomes]]:
        """What the outcomes of `eval` (leading candidates) and of `test` (whatever was measured there) say, by part."""
        tested = self.candidates[self.candidates["test_quality"].notna()].head(MOST_COMPARED)
        return {
            "eval": self._gather(self.comparable().head(MOST_COMPARED)),
            "test": gather(RunFolder(self.path), _pairs(tested, "test_quality"), "test", self.metric),
        }

    @cached_property
    def repeat_evidence(self) -> Mapping[str, Evidence | None]:
        """What the outcomes of the complete repeats say, by part."""
        repeats = self.repeats[self.repeats["status"] == "complete"]
        tested = repeats[repeats["test_quality"].notna()]
        return {
            "eval": self._gather(repeats)[0],
            "test": gather(RunFolder(self.path), _pairs(tested, "test_quality"), "test", self.metric)[0],
        }

    def ties(self, candidates: pd.DataFrame | None = None) -> TieSet | None:
        """The tie set of some complete candidates, best first, by default of all that have a metric.

        Of more than `MOST_COMPARED` the leading ones are compared. None where outcomes are absent, and where those of
        the best are: the others then say nothing about the best.
        """
        pool = (self.comparable() if candidates is None else candidates).head(MOST_COMPARED)
        names = [str(name) for name in pool["trial_id"]]
        evidence = self.evidence["eval"][0] if set(names) <= self._leading else self._gather(pool)[0]
        if evidence is None or not names or names[0] not in evidence.trial_ids:
            return None
        return evidence.ties(names)

    @cached_property
    def tied(self) -> frozenset[str] | None:
        """The complete trials that cannot be told from the best candidate; None where that is not known."""
        members = self.tied_candidates
        return None if members is None else members & frozenset(self.trials["trial_id"].astype(str))

    @cached_property
    def tied_candidates(self) -> frozenset[str] | None:
        """The trials and cuts that cannot be told from the best candidate; None where that is not known."""
        return None if self._all_ties is None else frozenset(self._all_ties.member_ids)

    @cached_property
    def _all_ties(self) -> TieSet | None:
        return self.ties()

    def tied_with_best(self, name: str) -> bool | None:
        """Whether a candidate cannot be told from the best; None where it was not compared."""
        found = self._all_ties
        return None if found is None or name not in found.trial_ids else name in found.member_ids

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
        """Two candidates on the evaluation data, example by example where both have outcomes."""
        names = (str(first["trial_id"]), str(second["trial_id"]))
        evidence = self.evidence["eval"][0]
        if self._beyond_leading(first, second):
            evidence = self._gather(pd.DataFrame([first, second]))[0]
        found = evidence.compare(*names) if evidence else None
        return found or compare(self.metric, first["quality"], second["quality"], self.examples("eval"))

    def beside_baseline(
        self, row: Mapping[str, Any], baseline: Mapping[str, Any], examples: int | None, part: str = "test"
    ) -> Comparison | None:
        """A candidate and a baseline on a part of the data; None where one of them was not measured there."""
        column = "test_quality" if part == "test" else "quality"
        values = {str(row["trial_id"]): row[column], str(baseline["outcomes_id"]): baseline[column]}
        if any(pd.isna(value) for value in values.values()) or len(values) < 2:
            return None
        evidence, _ = gather(RunFolder(self.path), values, part, self.metric)
        found = evidence.compare(*values) if evidence else None
        return found or compare(self.metric, row[column], baseline[column], examples)

    @cached_property
    def _leading(self) -> frozenset[str]:
        return frozenset(self.comparable()["trial_id"].head(MOST_COMPARED).astype(str))

    def _beyond_leading(self, *rows: Mapping[str, Any]) -> bool:
        """Whether one of some complete candidates is too far behind to be in the evidence, and none was left out."""
        names, known = {str(row["trial_id"]) for row in rows}, self.evidence["eval"][0]
        complete = all(row["status"] == "complete" for row in rows)
        usable = known is not None and names & self._leading <= set(known.trial_ids)
        return complete and len(names) == len(rows) and not names <= self._leading and usable

    def _gather(self, candidates: pd.DataFrame) -> tuple[Evidence | None, Outcomes]:
        """What the outcomes of `eval` say of some candidates."""
        recorded = _pairs(candidates, "quality")
        steps = _pairs(candidates[candidates["step"].notna()], "step")
        return gather(RunFolder(self.path), recorded, "eval", self.metric, steps)


def _pairs(trials: pd.DataFrame, column: str) -> dict[str, Any]:
    return dict(zip(trials["trial_id"].astype(str), trials[column], strict=True))


def read_results(run: RunFolder | Results) -> Results:
    """Read a run folder once; what was read already passes through."""
    if isinstance(run, Results):
        return run
    info, records, tested = run_info(run), run.records(), tested_rows(run)
    metric = run_metric(info, records)
    searched = [record for record in records if record.repeat_of is None]
    repeated = [record for record in records if record.repeat_of is not None]
    trials = build_trial_frame(searched, tested, metric)
    sweep = run.sweep_file.read_text(encoding="utf-8") if run.sweep_file.is_file() else ""
    return Results(
        path=run.path,
        metric=metric,
        trials=trials,
        points=build_points_frame(searched, metric),
        baselines=build_baseline_frame(run.analysis("baselines"), metric),
        repeats=build_trial_frame(repeated, tested, metric),
        candidates=candidate_frame(trials, metric, run.analysis("rank_curves"), run.analysis("latency"), tested),
        info=info,
        sweep=sweep,
    )


def sort_by_quality(frame: pd.DataFrame, metric: Metric, keys: Sequence[str] = ("trial_id",)) -> pd.DataFrame:
    """Rows with a quality, best first; equals by fewer trainable parameters, then by `keys`."""
    known = frame[frame["quality"].notna()]
    order = [metric.mode == "min", True, *(True for _ in keys)]
    return known.sort_values(["quality", "trainable_parameters", *keys], ascending=order, kind="stable")

"""Several runs beside each other: whether their figures mean the same, and how their picks differ.

Figures of two runs can be compared when both have the same metric and were measured on the same data. Hashes decide
that; where a run has none, the examples' ids and labels do. Where outcomes on the same examples are on record, picks
are compared example by example.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import NormalDist
from typing import Any, Literal

import pandas as pd

from lora_sweep.errors import ConfigError, RunFolderError
from lora_sweep.store import RunFolder
from reports.metric import Metric
from reports.pick import Pick, pick
from reports.results import MOST_COMPARED, Results, read_results
from reports.statistics import Comparison, Evidence, TieSet, compare, gather, holm
from reports.statistics.normal import Z95
from reports.statistics.outcomes import Outcomes
from reports.table import candidate_rows

Agreement = Literal["same", "different", "unknown"]


@dataclass(frozen=True)
class Side:
    """One of the runs.

    Attributes:
        name: the run's, made unique among those compared.
        results: what was read of it.
        pick: its choice; None where nothing can be picked.
    """

    name: str
    results: Results
    pick: Pick | None

    def key(self, trial_id: object) -> str:
        """A trial's name among all runs."""
        return f"{self.name}: {trial_id}"

    @cached_property
    def texts(self) -> Mapping[str, Mapping[str, str]]:
        """Trial or cut to its `TableRow.texts`."""
        return {row.name: row.texts for row in candidate_rows(self.results)}


@dataclass(frozen=True)
class Pair:
    """Two picks beside each other.

    Attributes:
        first, second: names of the runs.
        part: the data that they were compared on.
        found: the difference, positive where the first is better.
        p_value: adjusted for the number of pairs; None where there is none.
        same_data: whether both are known to have been measured on the same data, by hash or example by example.
    """

    first: str
    second: str
    part: str
    found: Comparison
    p_value: float | None
    same_data: bool = True


@dataclass(frozen=True)
class RunComparison:
    """Two or more runs with the same metric."""

    sides: tuple[Side, ...]

    @property
    def metric(self) -> Metric:
        return self.sides[0].results.metric

    def agreement(self, part: str, sides: Sequence[Side] = ()) -> Agreement:
        """Whether some runs, by default all, have the same data in this part.

        By hash, else by number of examples. What was set aside has no hash of its own: it differs where the training
        data that it comes from do.
        """
        parts = [side.results.section("data", "parts", part) for side in sides or self.sides]
        for fact in ("sha256", "examples"):
            values = [one.get(fact) for one in parts]
            if len({value for value in values if value is not None}) > 1:
                return "different"
            if fact == "sha256" and None not in values:
                return "same"
        set_aside = part != "train" and not any(one.get("sha256") for one in parts)
        return "different" if set_aside and self.agreement("train", sides) == "different" else "unknown"

    @cached_property
    def evidence(self) -> Evidence | None:
        """The leading complete trials and cuts of all runs on the same evaluation examples."""
        if self.eval_differs:
            return None
        most = MOST_COMPARED // len(self.sides)
        rows = [(side, row) for side in self.sides for row in _rows(side.results.comparable().head(most))]
        return self._gather("eval", rows)[0]

    @cached_property
    def ties(self) -> TieSet | None:
        """The trials and cuts of all runs that cannot be told from the best; None where that is not known."""
        evidence, best = self.evidence, self.leading.head(1)
        if evidence is None or best.empty or best["key"].iloc[0] not in evidence.trial_ids:
            return None
        return evidence.ties()

    @property
    def eval_differs(self) -> bool:
        """Whether figures on evaluation data cannot be held against each other."""
        return self.agreement("eval") == "different"

    @cached_property
    def leading(self) -> pd.DataFrame:
        """The complete trials and cuts of all runs, best first, with the columns `run` and `key`.

        Where the evaluation data differ, figures of two runs are not ordered: run after run, each best first.
        """
        frames = []
        for side in self.sides:
            own = side.results.comparable()
            keys = [side.key(name) for name in own["trial_id"]]
            frames.append(own.assign(run=side.name, key=keys)[["run", "key", "trial_id", "quality"]])
        joined = pd.concat(frames, ignore_index=True)
        if self.eval_differs:
            return joined
        return joined.sort_values("quality", ascending=self.metric.mode == "min", kind="stable")

    @cached_property
    def pairs(self) -> tuple[Pair, ...]:
        """Every two picks whose data do not differ, on test data where both were measured there, else on eval.

        Data without a hash differ where the picks' outcomes are of other examples.
        """
        found = [one for first, second in itertools.combinations(self.sides, 2) if (one := self._pair(first, second))]
        tested = [place for place, one in enumerate(found) if one.p_value is not None]
        adjusted = holm([found[place].p_value or 0.0 for place in tested])
        for place, p_value in zip(tested, adjusted, strict=True):
            found[place] = replace(found[place], p_value=p_value)
        return tuple(found)

    def _pair(self, first: Side, second: Side) -> Pair | None:
        if first.pick is None or second.pick is None:
            return None
        for part, column in (("test", "test_quality"), ("eval", "quality")):
            a, b = first.pick.chosen, second.pick.chosen
            if self.agreement(part, (first, second)) == "different" or math.isnan(a[column] + b[column]):
                continue
            same = self.agreement(part, (first, second)) == "same"
            evidence, outcomes = self._gather(part, [(first, a), (second, b)])
            found = evidence.compare(first.key(a["trial_id"]), second.key(b["trial_id"])) if evidence else None
            if found is None and not same and outcomes.misfits:
                continue
            if found is None:
                sizes = [side.results.examples(part) for side in (first, second)]
                fewest = min(size or 0 for size in sizes) or None
                found = compare(self.metric, float(a[column]), float(b[column]), fewest)
            return Pair(first.name, second.name, part, found, _p_value(found), same or found.paired)
        return None

    def _gather(self, part: str, rows: Sequence[tuple[Side, Mapping[str, Any]]]) -> tuple[Evidence | None, Outcomes]:
        column = "quality" if part == "eval" else "test_quality"
        places = {side.key(row["trial_id"]): (side, row) for side, row in rows}
        recorded = {key: float(row[column]) for key, (_, row) in places.items()}
        steps = {key: int(row["step"]) for key, (_, row) in places.items() if not math.isnan(row["step"])}
        source = _AllRuns({key: (side, str(row["trial_id"])) for key, (side, row) in places.items()}, self._labels)
        return gather(source, recorded, part, self.metric, steps if part == "eval" else None)

    @cached_property
    def _labels(self) -> Mapping[str, Mapping[int, int]]:
        """Run to its numbers of classes in the first run's; only for runs that number the same names otherwise."""
        labels = [(side.name, side.results.section("task").get("labels")) for side in self.sides]
        names = {run: [str(one) for one in own] for run, own in labels if isinstance(own, list) and own}
        first = next(iter(names.values()), [])
        return {
            run: {number: first.index(name) for number, name in enumerate(own)}
            for run, own in names.items()
            if own != first and set(own) <= set(first)
        }


@dataclass(frozen=True)
class _AllRuns:
    """The outcomes of several runs, by a trial's name among all of them."""

    places: Mapping[str, tuple[Side, str]]
    labels: Mapping[str, Mapping[int, int]]

    def outcomes(self, key: str) -> pd.DataFrame | None:
        side, trial_id = self.places[key]
        found = RunFolder(side.results.path).outcomes(trial_id)
        numbers = self.labels.get(side.name)
        if found is None or numbers is None or "label" not in found.columns:
            return found
        renumbered = {name: found[name].map(numbers) for name in ("label", "prediction")}
        # the logits stand in the order of the other numbers
        return found.assign(**renumbered).drop(columns="logits", errors="ignore")


def compare_runs(runs: Sequence[RunFolder]) -> RunComparison:
    """Read several runs.

    Args:
        runs: two or more folders.

    Raises:
        ConfigError: a run stands twice, or the runs were after different metrics.
    """
    twice = [str(path) for path, times in Counter(run.path.resolve() for run in runs).items() if times > 1]
    if twice:
        raise ConfigError("RUN", "must be given once", twice[0], "Name each run folder once.")
    results = [read_results(run) for run in runs]
    metrics = {(one.metric.name, one.metric.mode) for one in results}
    if len(metrics) > 1:
        found = ", ".join(f"{one.metric.name} ({one.metric.mode}) in {one.path}" for one in results)
        raise ConfigError("RUN", f"must all have one metric, found {found}", None, "Compare runs with the same metric.")
    sides = zip(_names(results), results, strict=True)
    return RunComparison(tuple(Side(name, one, _pick(one)) for name, one in sides))


def _names(results: Sequence[Results]) -> list[str]:
    """The runs' names; where two are equal, the folders' names, and where those are equal too, their paths."""
    for names in (
        [str(one.info.get("name") or one.path.name) for one in results],
        [one.path.resolve().name for one in results],
    ):
        if len(set(names)) == len(names):
            return names
    return [str(one.path) for one in results]


def _pick(results: Results) -> Pick | None:
    try:
        return pick(results)
    except RunFolderError:
        return None


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def _p_value(found: Comparison) -> float | None:
    """Of no difference; from the interval where the trials were not compared example by example."""
    if found.p_value is not None or not found.half_width:
        return found.p_value
    return 2 * NormalDist().cdf(-abs(found.gain) / (found.half_width / Z95))

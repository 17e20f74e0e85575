"""All that the outcomes on one part of the data say about one metric, computed once and on demand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from reports.metric import Metric
from reports.statistics import bootstrap
from reports.statistics.alignment import OutcomeSource, read_outcomes
from reports.statistics.intervals import intervals
from reports.statistics.normal import Floats
from reports.statistics.outcomes import Outcomes
from reports.statistics.paired import paired_comparison
from reports.statistics.samples import Sample, estimates
from reports.statistics.selection import optimism, simultaneous_level
from reports.statistics.ties import TieSet, tie_set
from reports.statistics.unpaired import Comparison

Bounds = tuple[float, float]


@dataclass(frozen=True)
class Evidence:
    """One metric of K aligned trials.

    Attributes:
        metric: its name and direction.
        outcomes: the aligned answers.
        sample: the metric on them.
        seed: of the resamples.
    """

    metric: Metric
    outcomes: Outcomes
    sample: Sample
    seed: int = 0

    @property
    def trial_ids(self) -> tuple[str, ...]:
        return self.outcomes.trial_ids

    @property
    def examples(self) -> int:
        return self.sample.examples

    @cached_property
    def values(self) -> Floats:
        """[K], the metric on the shared examples."""
        return estimates(self.sample)

    @cached_property
    def replicates(self) -> Floats:
        """[B, K], the metric on resamples that all trials share."""
        return bootstrap.replicates(self.sample, seed=self.seed)

    def interval(self, trial_id: str) -> Bounds | None:
        """The 95 % interval of this adapter's metric; None for a trial that is not here or has none."""
        return self._intervals.get(trial_id)

    def simultaneous(self, trial_ids: Sequence[str]) -> dict[str, Bounds]:
        """95 % intervals that hold for all these trials at once, so also for the one of them that was picked."""
        at = self._positions(trial_ids)
        if not at:
            return {}
        sample, replicates = self.sample.take(at), self.replicates[:, at]
        bounds = intervals(sample, replicates, simultaneous_level(sample, replicates))
        return _known(dict(zip([self.trial_ids[i] for i in at], bounds, strict=True)))

    def ties(self, trial_ids: Sequence[str] | None = None) -> TieSet | None:
        """The tie set of these trials, by default of all; None when none of them is here."""
        at = self._positions(self.trial_ids if trial_ids is None else trial_ids)
        if not at:
            return None
        names = tuple(self.trial_ids[i] for i in at)
        if names not in self._tie_sets:
            self._tie_sets[names] = tie_set(names, self.sample.take(at), self.replicates[:, at], self._sign)
        return self._tie_sets[names]

    def compare(self, first: str, second: str) -> Comparison | None:
        """The first trial beside the second, example by example; None when one of them is not here."""
        at = self._positions((first, second))
        if len(at) < 2:
            return None
        return paired_comparison(self.sample.take(at), self._sign)

    def optimism(self, trial_ids: Sequence[str] | None = None) -> float:
        """How much the figure of the best of these trials flatters it, because it was chosen by it."""
        at = self._positions(self.trial_ids if trial_ids is None else trial_ids)
        return optimism(self.values[at], self.replicates[:, at], self._sign) if at else math.nan

    def covariance(self, trial_ids: Sequence[str]) -> Floats | None:
        """[K, K], what the examples do to the metrics of these trials; None when one of them is not here."""
        at = self._positions(trial_ids)
        if len(at) < len(trial_ids):
            return None
        return np.atleast_2d(np.cov(self.replicates[:, at], rowvar=False))

    @cached_property
    def _tie_sets(self) -> dict[tuple[str, ...], TieSet]:
        """What was computed already, by the trials."""
        return {}

    @cached_property
    def _intervals(self) -> Mapping[str, Bounds]:
        # accuracy needs no resamples here
        replicates = self.values[None, :] if self.sample.binary else self.replicates
        return _known(dict(zip(self.trial_ids, intervals(self.sample, replicates), strict=True)))

    @property
    def _sign(self) -> int:
        return 1 if self.metric.mode == "max" else -1

    def _positions(self, trial_ids: Sequence[str]) -> list[int]:
        places = {name: place for place, name in enumerate(self.trial_ids)}
        return [places[name] for name in trial_ids if name in places]


def gather(
    run: OutcomeSource,
    recorded: Mapping[str, float],
    split: str,
    metric: Metric,
    steps: Mapping[str, int] | None = None,
) -> tuple[Evidence | None, Outcomes]:
    """The evidence on some trials, and the outcomes that it rests on (with what was left out of them).

    Args:
        run: the run folder, or another source.
        recorded: the metric on record by trial; outcomes that do not give it are left out, and so are trials that
            have none. NaN is not checked.
        split: `eval` or `test`.
        metric: the run's metric.
        steps: the kept step of each trial, see `read_outcomes`.
    """
    outcomes = read_outcomes(run, list(recorded), split, steps)
    sample = outcomes.sample(metric.name)
    if sample is not None:
        strange = _at_odds(outcomes, estimates(sample), recorded, metric)
        if strange:
            outcomes = outcomes.without(strange)
            sample = outcomes.sample(metric.name)
    return (None if sample is None else Evidence(metric, outcomes, sample)), outcomes


def _at_odds(outcomes: Outcomes, values: Floats, recorded: Mapping[str, float], metric: Metric) -> dict[str, str]:
    """The trials whose outcomes do not give the metric on record; unknown where examples were dropped."""
    found = {}
    for name, value in zip(outcomes.trial_ids, values, strict=True):
        if not math.isfinite(value):
            found[name] = f"its outcomes give no finite {metric.title}"
        elif outcomes.dropped == 0 and not math.isnan(recorded[name]) and not _close(value, recorded[name]):
            found[name] = f"its outcomes give another {metric.title} than its record"
    return found


def _close(value: float, other: float) -> bool:
    return math.isclose(value, other, rel_tol=1e-4, abs_tol=1e-6)


def _known(bounds: Mapping[str, Floats]) -> dict[str, Bounds]:
    pairs = {name: (float(low), float(high)) for name, (low, high) in bounds.items()}
    return {name: pair for name, pair in pairs.items() if not math.isnan(pair[0]) and not math.isnan(pair[1])}

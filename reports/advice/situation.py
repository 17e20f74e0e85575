"""What the rules look at: the run, its sweep file read as a space, the leading trials and their curves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from reports.results import Results, sort_by_quality
from reports.searched import searched_trials
from reports.statistics import Comparison
from search_spaces import Space, SpaceError
from search_spaces import load as load_space
from search_spaces.domains import Choice, Domain
from search_spaces.texts import read_yaml

MOST_CURVES = 8
_WITHOUT_TIES = 3


@dataclass(frozen=True)
class Situation:
    """One run, for the rules. Repeats of a configuration with another seed are in none of the frames.

    Attributes:
        results: the run.
    """

    results: Results

    @cached_property
    def trials(self) -> pd.DataFrame:
        """The trials that the search suggested."""
        return searched_trials(self.results)

    @cached_property
    def evaluated(self) -> pd.DataFrame:
        """Complete and stopped ones that have a metric."""
        trials = self.trials
        return trials[trials["status"].isin(["complete", "stopped"]) & trials["quality"].notna()]

    @cached_property
    def complete(self) -> pd.DataFrame:
        """Complete ones, best first."""
        return sort_by_quality(self.trials[self.trials["status"] == "complete"], self.results.metric)

    @cached_property
    def tied(self) -> pd.DataFrame | None:
        """The complete ones that cannot be told from the best, best first; None where that was not tested."""
        names = self.results.tied
        return None if names is None else self.complete[self.complete["trial_id"].isin(names)]

    @cached_property
    def leaders(self) -> pd.DataFrame:
        """The tie set, or the best three where it is not known."""
        return self.complete.head(_WITHOUT_TIES) if self.tied is None else self.tied

    @property
    def called_leaders(self) -> str:
        """What the text calls the leaders."""
        if self.tied is None:
            return "leading trials"
        return "trials that cannot be told from the best" if len(self.leaders) > 1 else "best trial"

    @cached_property
    def ends(self) -> pd.DataFrame:
        """Quality, training loss and norms at each trial's first and last evaluation, `NAME_first` and `NAME_last`.

        Only trials with at least two evaluations are here; what was not noted is NaN.
        """
        names = ["quality", "train_loss", "norm_a", "norm_b"]
        points = self.results.points[["trial_id", *names]]
        points = points.assign(**{name: points[name].astype(float) for name in names})
        turns = points.groupby("trial_id")
        several = points[turns["trial_id"].transform("size") > 1].set_index("trial_id")
        first, last = (several.groupby(level=0).nth(place) for place in (0, -1))
        return first.add_suffix("_first").join(last.add_suffix("_last"))

    @cached_property
    def leading_points(self) -> Mapping[str, pd.DataFrame]:
        """The evaluations of the best leaders, at most `MOST_CURVES`, the best first."""
        points = self.results.points
        names = self.leaders["trial_id"].head(MOST_CURVES)
        rows = points[points["trial_id"].isin(names)]
        return {str(name): rows[rows["trial_id"] == name] for name in names}

    def compare(self, first: pd.Series[Any], second: pd.Series[Any]) -> Comparison:
        """Two rows of these frames on the evaluation data, example by example where both have outcomes."""
        rows = ({str(key): value for key, value in row.items()} for row in (first, second))
        return self.results.compare(*rows)

    @cached_property
    def sweep(self) -> Mapping[str, Any]:
        """The content of sweep.yaml; empty when there is none that can be read."""
        try:
            raw = read_yaml(self.results.sweep, "sweep.yaml")
        except SpaceError:
            return {}
        return raw if isinstance(raw, Mapping) else {}

    def section(self, name: str) -> Mapping[str, Any]:
        """A section of sweep.yaml, or of run.json where that has none."""
        found = self.sweep.get(name)
        return found if isinstance(found, Mapping) else self.results.section(name)

    def domain(self, key: str) -> Domain | None:
        """What a key of the space may be; None where it is not known or another key's choice decides it."""
        if self._space is None:
            return None
        entries = dict(self._space.entries)
        if any(key in domain.mentions() for domain in entries.values()):
            return None
        found = entries.get(key)
        if isinstance(found, Choice) and any(option.branch for option in found.options):
            return None
        return found

    def has_key(self, key: str) -> bool:
        """Whether the space says anything about a key, under a choice or not."""
        entries = () if self._space is None else self._space.entries
        return any(name == key or key in domain.mentions() for name, domain in entries)

    @cached_property
    def _space(self) -> Space | None:
        raw = self.sweep.get("space")
        try:
            return None if raw is None else load_space(raw, self.results.path)
        except SpaceError:
            return None

"""How good configurations are over seeds: the finalists' with new seeds, or the search's where it tried several.

The first seed of a finalist was chosen by its figure and flatters its configuration, so that its mean is over the new
seeds alone. The seeds of a search (`search.repeats`) count all: none was trained because of the others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from reports import units
from reports.frame import UNKNOWN_TARGETS, bias_text
from reports.results import Results
from reports.statistics import BesideBest, Evidence, compare_configurations

Part = Literal["eval", "test"]
Source = Literal["finalists", "search"]
PARTS: tuple[Part, ...] = ("eval", "test")
SOURCES: tuple[Source, ...] = ("finalists", "search")
_COLUMNS = {"eval": "quality", "test": "test_quality"}


@dataclass(frozen=True)
class ConfigurationSummary:
    """One configuration over several seeds, on one part of the data.

    Attributes:
        trial_id: the search's trial that stands for it: the finalist, or the best of its seeds.
        configuration: its settings in words.
        values: the metric of each seed that counts, by trial id.
        mean: over these; NaN where none is left.
        spread: standard deviation between them; NaN for one seed.
        bounds: 95 % interval of the mean over new seeds and new examples; None for one seed or without outcomes.
        gain: how much better the mean is than that of the best configuration here, at most 0.
        gain_bounds: 95 % interval of that, for all comparisons with the best at once; None for the best itself.
        ruled_out: whether that interval leaves out 0, so that it is not the best of these configurations.
        selected: the metric of the finalist's own trial, which counts in nothing here; NaN for seeds of the search.
        failed: seeds that failed, about which the mean says nothing.
    """

    trial_id: str
    configuration: str
    values: tuple[tuple[str, float], ...]
    mean: float
    spread: float
    bounds: tuple[float, float] | None
    gain: float
    gain_bounds: tuple[float, float] | None
    ruled_out: bool
    selected: float = math.nan
    failed: int = 0

    @property
    def seeds(self) -> int:
        """How many seeds the mean is over."""
        return len(self.values)


@dataclass(frozen=True)
class _Group:
    """The seeds of one configuration: `first` is the trial that stands for it, `rows` are the trials that count."""

    first: pd.Series
    rows: pd.DataFrame
    selected: float
    failed: int


def configuration_summaries(
    results: Results, part: Part, source: Source | None = None
) -> tuple[ConfigurationSummary, ...]:
    """Every configuration with several seeds, the best mean first; empty where the run has none.

    Args:
        results: the run.
        part: on which data. Seeds of the search have figures on `eval` alone.
        source: `finalists`, or `search` for those of `search.repeats`, with the exception of configurations of which
            the scheduler stopped a seed: what is left of them are the better ones. By default finalists where the run
            has new seeds.
    """
    wanted = source or ("finalists" if len(results.repeats) else "search")
    groups = _finalists(results, part) if wanted == "finalists" else _searched(results, part)
    evidence = results.repeat_evidence[part] if wanted == "finalists" else results.evidence[part][0]
    known = [group for group in groups if len(group.rows)]
    compared = _compare(results, known, part, evidence)
    found = [_summary(group, part, beside) for group, beside in zip(known, compared, strict=True)]
    found.sort(key=lambda one: -results.metric.gain(one.mean, 0.0))
    return (*found, *(_summary(group, part, None) for group in groups if not len(group.rows)))


def ruled_out_over_seeds(results: Results) -> frozenset[str]:
    """The search's trials whose configurations other seeds rule out as the best of the finalists, or of the search.

    By the evaluation data alone, so that a choice that leaves them out has still not seen the test data.
    """
    out = [one for one in configuration_summaries(results, "eval") if one.ruled_out]
    names = {name for one in out for name in (one.trial_id, *dict(one.values))}
    return frozenset(names & set(results.trials["trial_id"]))


def held_over_seeds(results: Results) -> frozenset[str]:
    """The search's trials whose configurations were trained with other seeds, which do not rule them out."""
    held = [one for one in configuration_summaries(results, "eval") if one.seeds and not one.ruled_out]
    names = {name for one in held for name in (one.trial_id, *dict(one.values))}
    return frozenset(names & set(results.trials["trial_id"]))


def seed_text(results: Results, trial_id: str) -> str:
    """How good the configuration of a trial is over seeds, a sentence or two; empty where it had a single seed."""
    for part in ("test", "eval"):
        found = configuration_summaries(results, part)
        own = next((one for one in found if trial_id in (one.trial_id, *dict(one.values))), None)
        if own is not None and own.seeds + own.failed > 0:
            return " ".join([_mean_text(results, own, part), *_beside_text(results, own, found)])
    return ""


def _finalists(results: Results, part: Part) -> list[_Group]:
    groups = []
    for _, first in results.finalists.iterrows():
        repeats = results.repeats[results.repeats["repeat_of"] == first["trial_id"]]
        counted = repeats[(repeats["status"] == "complete") & repeats[_COLUMNS[part]].notna()]
        failed = int((repeats["status"] == "failed").sum())
        groups.append(_Group(first, counted, float(first[_COLUMNS[part]]), failed))
    return [group for group in groups if len(group.rows) or group.failed]


def _searched(results: Results, part: Part) -> list[_Group]:
    """Configurations with several seeds in the search, none of them stopped, that can be compared."""
    several = results.trials.groupby("configuration")["seed"].transform("nunique") > 1
    stopped = results.trials["status"].eq("stopped").groupby(results.trials["configuration"]).transform("any")
    ranked = results.ranked("complete")
    open_ones = results.trials.loc[several & ~stopped, "configuration"]
    ranked = ranked[ranked["configuration"].isin(open_ones) & ranked[_COLUMNS[part]].notna()]
    groups = []
    for configuration, rows in ranked.groupby("configuration", sort=False):
        same = results.trials[results.trials["configuration"] == configuration]
        failed = int((same["status"] == "failed").sum())
        groups.append(_Group(rows.iloc[0], rows.drop_duplicates("seed"), math.nan, failed))
    return [group for group in groups if len(group.rows) + group.failed > 1]


def _compare(results: Results, groups: Sequence[_Group], part: Part, evidence: Evidence | None) -> list[BesideBest]:
    if not groups:
        return []
    ids = [str(name) for group in groups for name in group.rows["trial_id"]]
    values = [[float(value) for value in group.rows[_COLUMNS[part]]] for group in groups]
    covariance = None if evidence is None else evidence.covariance(ids)
    sign = 1 if results.metric.mode == "max" else -1
    return compare_configurations(values, covariance, sign, within=results.metric.limits)


def _summary(group: _Group, part: Part, beside: BesideBest | None) -> ConfigurationSummary:
    ids = group.rows["trial_id"].astype(str)
    values = group.rows[_COLUMNS[part]].astype(float)
    over_seeds = beside.over_seeds if beside else None
    return ConfigurationSummary(
        trial_id=str(group.first["trial_id"]),
        configuration=label(group.first),
        values=tuple(zip(ids, values, strict=True)),
        mean=float(values.mean()),
        spread=float(values.std()),
        bounds=over_seeds.bounds if over_seeds else None,
        gain=beside.gain if beside else math.nan,
        gain_bounds=beside.bounds if beside else None,
        ruled_out=beside.ruled_out if beside else False,
        selected=group.selected,
        failed=group.failed,
    )


def label(row: pd.Series) -> str:
    """A trial's settings in words, without those that are not known; its id where none is."""
    settings = (
        ("rank ", units.number(row["rank"], 6)),
        ("alpha ", units.number(row["alpha"])),
        ("dropout ", units.number(row["dropout"], 2) if row["dropout"] > 0 else units.MISSING),
        ("biases ", bias_text(row["bias"])),
        ("", units.MISSING if row["target_label"] == UNKNOWN_TARGETS else str(row["target_label"])),
        ("rate ", units.number(row["learning_rate"], 2)),
    )
    known = [word + value for word, value in settings if value != units.MISSING]
    return ", ".join(known) or str(row["trial_id"])


def _mean_text(results: Results, own: ConfigurationSummary, part: Part) -> str:
    metric = results.metric
    again = not math.isnan(own.selected)
    number = units.plural(own.seeds, "new seed" if again else "seed")
    trained = f"Its configuration was trained {'again ' if again else ''}with {number}"
    lost = f", beside {own.failed} that failed" if own.failed else ""
    if own.seeds == 0:
        return f"Its configuration was trained again with {units.plural(own.failed, 'new seed')}, and every one failed."
    on = "test" if part == "test" else "evaluation"
    text = f"{trained}{lost}: mean {metric.title} on the {on} data {metric.text(own.mean)}"
    if own.bounds is not None:
        text += f", 95 % interval {metric.interval_text(own.bounds)} over seeds and examples"
    return f"{text}; the other figures are of this one adapter."


def _beside_text(results: Results, own: ConfigurationSummary, found: Sequence[ConfigurationSummary]) -> list[str]:
    others = [one for one in found if one.trial_id != own.trial_id and one.seeds]
    if not others or own.seeds == 0:
        return []
    metric, best = results.metric, found[0]
    if own.trial_id == best.trial_id:
        told = _ruled_out_text(sum(one.ruled_out for one in others), len(others))
        return [f"It has the best mean of {len(others) + 1} configurations; the seeds {told} as the best."]
    text = f"Its mean lies {metric.difference_text(own.gain)} behind that of {best.trial_id}"
    if own.gain_bounds is None:
        return [f"{text}."]
    verdict = "which rules it out as the best" if own.ruled_out else "which the seeds cannot tell from chance"
    return [f"{text} (95 % interval {metric.gain_text(own.gain_bounds)}), {verdict}."]


def _ruled_out_text(out: int, others: int) -> str:
    if others == 1:
        return "rule out the other" if out else "do not rule out the other"
    return f"rule out {out or 'none'} of the other {others}"

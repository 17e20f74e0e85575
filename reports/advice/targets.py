"""A set of target modules that takes longer without being better."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from typing import Any

import pandas as pd

from reports import units
from reports.advice.piece import Advice
from reports.advice.situation import Situation
from search_spaces.domains import Choice

_LEAST_TRIALS = 4
_DEARER = 1.4
_SHARE = 0.25


def dear_targets(situation: Situation) -> Iterator[Advice]:
    """A smaller set is in the tie set; a larger one takes 1.4 times its device time a step and a quarter of all."""
    domain, tied = situation.domain("target_modules"), situation.tied
    if not isinstance(domain, Choice) or len(domain.options) < 2 or tied is None or not len(tied):
        return
    known = situation.evaluated[situation.evaluated["reached_step"] > 0]
    groups = {str(name): rows for name, rows in known.groupby("target_label") if len(rows) >= _LEAST_TRIALS}
    total = float(known["device_seconds"].astype(float).sum())
    labels = {option.label for option in domain.options}
    found = []
    for dear, cheap in permutations(groups, 2):
        share = float(groups[dear]["device_seconds"].astype(float).sum()) / total if total > 0 else 0.0
        ratio = _per_step(groups[dear]) / max(_per_step(groups[cheap]), 1e-12)
        compared = (groups[dear]["status"] == "complete").sum() >= 2 and cheap in set(tied["target_label"])
        if compared and ratio >= _DEARER and share >= _SHARE and dear in labels:
            found.append((share, ratio, dear, cheap))
    if found:
        yield _advice(situation, domain, *max(found), groups)


def _advice(
    situation: Situation, domain: Choice, share: float, ratio: float, dear: str, cheap: str, groups: dict[str, Any]
) -> Advice:
    metric, tied = situation.results.metric, situation.tied
    assert tied is not None
    best = tied[tied["target_label"] == cheap].iloc[0]
    other = situation.complete[situation.complete["target_label"] == dear].iloc[0]
    times = situation.compare(other, best)
    bounds = f" (95 % interval {metric.gain_text(times.bounds)}, paired)" if times.paired and times.bounds else ""
    side = "better" if times.gain > 0 else "worse"
    size = "equal to" if times.gain == 0 else f"{metric.difference_text(times.gain)} {side} than"
    return Advice(
        title=f"Leave out {dear}",
        fact=(
            f"A step with {dear} takes {ratio:.1f} times the device time of one with {cheap} (medians over "
            f"{len(groups[dear])} and {len(groups[cheap])} trials), and {dear} took {units.percent(share)} of all "
            f"device time. Its best trial, {other['trial_id']}, is {size} {best['trial_id']} with {cheap}{bounds}, "
            "which cannot be told from the best."
        ),
        why=(
            f"The wider set costs time and {units.count(float(other['trainable_parameters']))} parameters against "
            f"{units.count(float(best['trainable_parameters']))} without a gain that these data can see. A longer "
            "budget could still show one."
        ),
        change={"space": {"target_modules": _without(domain, dear)}},
    )


def _per_step(trials: pd.DataFrame) -> float:
    return float((trials["device_seconds"].astype(float) / trials["reached_step"].astype(float)).median())


def _without(domain: Choice, label: str) -> Any:
    kept = tuple(option for option in domain.options if option.label != label)
    return Choice(kept, labelled=domain.labelled).to_raw()

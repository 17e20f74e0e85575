"""Trials whose loss left the finite numbers or did not fall, at the higher learning rates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from reports import units
from reports.advice.domains import bounded_above, numbers
from reports.advice.piece import Advice
from reports.advice.situation import Situation

_APART = 0.9
_FELL = 0.02
_USUAL = 0.05


def divergence(situation: Situation) -> Iterator[Advice]:
    """Diverged trials have higher rates than the others: in 9 of 10 pairs, and a single one the highest of all."""
    lost = _not_finite(situation.trials)
    stuck = situation.evaluated[situation.evaluated["trial_id"].isin(_stuck(situation))]
    bad = pd.concat([lost, stuck])
    good = situation.evaluated[~situation.evaluated["trial_id"].isin(stuck["trial_id"])]
    if not len(bad) or len(good) < 3 or not _higher(bad, good, single=len(lost) > 0):
        return
    most = _healthy_most(situation, bad, good)
    if most is None:
        return
    domain = situation.domain("learning_rate")
    known = [] if domain is None else numbers(domain)
    if domain is None or not known or most >= known[-1]:
        return
    narrowed = bounded_above(domain, most)
    yield Advice(
        title="Lower the highest learning rate",
        fact=(
            f"{_what(lost, stuck)}; their rates were {_span(bad)}, those of the other "
            f"{units.plural(len(good), 'trial')} {_span(good)} (median {units.number(_rates(good).median())})."
        ),
        why="Training diverges at the upper end of the space, so trials there are mostly wasted.",
        change={"space": {"learning_rate": narrowed}} if narrowed is not None else {},
    )


def _not_finite(trials: pd.DataFrame) -> pd.DataFrame:
    failed = trials[trials["status"] == "failed"]
    said = failed["error"].fillna("").astype(str)
    return failed[said.str.contains("NonFiniteLoss|loss became|loss is not finite", regex=True)]


def _stuck(situation: Situation) -> pd.Index[str]:
    """The trials whose training loss and metric never improved on their first evaluation, where most others' did."""
    ends = situation.ends
    fell = 1 - ends["train_loss_last"] / ends["train_loss_first"]
    sign = 1 if situation.results.metric.mode == "max" else -1
    gained = sign * (ends["quality_last"] - ends["quality_first"])
    return ends.index[(fell < _FELL) & (gained <= 0)] if fell.median() >= _USUAL else ends.index[:0]


def _higher(bad: pd.DataFrame, good: pd.DataFrame, single: bool) -> bool:
    """Whether the rates of the first are above those of the second, more clearly than chance would have it."""
    theirs, others = _rates(bad).to_numpy(), _rates(good).to_numpy()
    if len(theirs) == 1:
        return single and bool((theirs[0] > others).all())
    return float((theirs[:, None] > others[None, :]).mean()) >= _APART


def _healthy_most(situation: Situation, bad: pd.DataFrame, good: pd.DataFrame) -> float | None:
    """The highest rate below all that diverged, but not below what the leaders use."""
    rates = _rates(good)
    below = rates[rates < _rates(bad).min()]
    leading = _rates(situation.leaders)
    known = [*below.nlargest(1), *leading.nlargest(1)]
    return max(known) if known else None


def _rates(trials: pd.DataFrame) -> Any:
    return trials["learning_rate"].astype(float)


def _span(trials: pd.DataFrame) -> str:
    low, high = float(_rates(trials).min()), float(_rates(trials).max())
    return units.number(low, 2) if low == high else f"{units.number(low, 2)} to {units.number(high, 2)}"


def _what(lost: pd.DataFrame, stuck: pd.DataFrame) -> str:
    parts = []
    if len(lost):
        parts.append(f"{units.plural(len(lost), 'trial')} ended with a loss that is not finite")
    if len(stuck):
        parts.append(
            f"{units.plural(len(stuck), 'trial')} improved neither training loss nor metric after the first evaluation"
        )
    return " and ".join(parts)

"""Still improving when training ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import fmean
from typing import Any

from reports import units
from reports.advice.curves import Course, courses
from reports.advice.piece import Advice
from reports.advice.situation import Situation

_SHARE = 0.15
_LEAST = 0.01


def underfitting(situation: Situation) -> Iterator[Advice]:
    """The leaders' last quarter brought at least 15 % of what the evaluation loss fell, and their best evaluation."""
    found = courses(situation)
    metric = situation.results.metric
    at_end = [one for one in found if all(metric.gain(one.quality[-1], over) > 0 for over in one.quality[:-1])]
    if not found or 3 * len(at_end) < 2 * len(found):
        return
    first, late, end = _means(found, "eval_loss")
    _, train_late, train_end = _means(found, "train_loss")
    if not (first > end and late - end >= _SHARE * (first - end) and late - end >= _LEAST * late):
        return
    if not train_end < train_late:
        return
    gain = fmean(metric.gain(one.quality[-1], one.quality[one.late]) for one in found)
    trials = units.plural(len(found), "trial") if len(found) > 1 else "trial"
    part = units.percent((late - end) / (first - end))
    yield Advice(
        title="Train for longer",
        fact=(
            f"The leading {trials} improved up to the end: over the last quarter of the steps the evaluation loss fell "
            f"from {late:.3f} to {end:.3f} ({part} of its whole fall), the training loss "
            f"from {train_late:.3f} to {train_end:.3f}, and {metric.title} gained {metric.difference_text(gain)}; the "
            f"last evaluation was the best for {len(at_end)} of {len(found)}."
        ),
        why=(
            "They had not learned all they could (under-fitting), and slow starters were judged too early. Higher "
            "ranks or wider targets would cost parameters before it is known that they are needed."
        ),
        change=_longer(situation),
    )


def _means(found: list[Course], name: str) -> tuple[float, float, float]:
    """At the first evaluation, after three quarters and at the end."""
    curves = [(getattr(one, name), one.late) for one in found]
    return fmean(c[0] for c, _ in curves), fmean(c[i] for c, i in curves), fmean(c[-1] for c, _ in curves)


def _longer(situation: Situation) -> Mapping[str, Mapping[str, Any]]:
    budget = situation.section("budget")
    for unit in ("steps", "epochs"):
        amount, every = budget.get(unit), budget.get("eval_every")
        if isinstance(amount, (int, float)):
            doubled: dict[str, Any] = {unit: 2 * amount}
            # evaluated as often as before, so that a scheduler's rungs stay where they are
            return {"budget": doubled | ({"eval_every": _whole(2 * every)} if isinstance(every, (int, float)) else {})}
    return {}


def _whole(number: float) -> float | int:
    return int(number) if number == int(number) else number

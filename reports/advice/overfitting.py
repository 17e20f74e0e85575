"""Worse on the evaluation data while the training loss goes on falling."""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import fmean, median
from typing import Any

from reports import units
from reports.advice.curves import Course, courses
from reports.advice.domains import numbers
from reports.advice.piece import Advice
from reports.advice.situation import Situation
from search_spaces.domains import Choice

_RISE = 1.05


def overfitting(situation: Situation) -> Iterator[Advice]:
    """In two of three leaders the evaluation loss rose by 5 % after its lowest point, and the metric fell."""
    found = courses(situation)
    metric = situation.results.metric
    turned = [
        one
        for one in found
        if one.eval_loss[-1] >= _RISE * one.eval_loss[one.lowest]
        and one.train_loss[-1] < one.train_loss[one.lowest]
        and any(metric.gain(earlier, one.quality[-1]) > 0 for earlier in one.quality[:-1])
    ]
    if not turned or 3 * len(turned) < 2 * len(found):
        return
    share = median(one.steps[one.lowest] / one.steps[-1] for one in turned)
    low, end = fmean(one.eval_loss[one.lowest] for one in turned), fmean(one.eval_loss[-1] for one in turned)
    train = fmean(one.train_loss[one.lowest] for one in turned), fmean(one.train_loss[-1] for one in turned)
    lost = fmean(_lost(one, situation) for one in turned)
    yield Advice(
        title="Train for shorter, or hold back more",
        fact=(
            f"{len(turned)} of {len(found)} leading trials got worse after {units.percent(share)} of their steps: "
            f"their evaluation loss rose from {low:.3f} to {end:.3f} while their training loss fell from "
            f"{train[0]:.3f} to {train[1]:.3f}, and their last {metric.title} is "
            f"{metric.difference_text(lost)} behind their best."
        ),
        why=(
            "They learn the training examples by heart (over-fitting). Fewer steps cost less and end where they were "
            "best; dropout, a lower rank or more training data hold back too."
        ),
        change=_changes(situation, share),
    )


def _lost(one: Course, situation: Situation) -> float:
    gain = situation.results.metric.gain
    return max(gain(earlier, one.quality[-1]) for earlier in one.quality)


def _changes(situation: Situation, share: float) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    budget = situation.section("budget")
    steps, epochs = budget.get("steps"), budget.get("epochs")
    if isinstance(steps, int):
        shorter = max(1, math.ceil(share * steps))
        found["budget"] = {"steps": shorter, "eval_every": max(1, shorter // 4)}
    elif isinstance(epochs, (int, float)):
        found["budget"] = {"epochs": round(share * epochs, 2), "eval_every": round(share * epochs / 4, 3)}
    domain = situation.domain("dropout")
    known = numbers(domain) if isinstance(domain, Choice) else []
    if known and max(known) < 0.1:
        found["space"] = {"dropout": [*known, 0.1]}
    return found

"""The best trials all at one edge of the space."""

from __future__ import annotations

import math
from collections.abc import Iterator

from reports import units
from reports.advice.domains import Side, at_edge, has_room, numbers, widened
from reports.advice.piece import Advice
from reports.advice.situation import Situation
from search_spaces.domains import Choice, Domain

_TITLES = {
    "rank": "rank", "alpha": "alpha", "dropout": "dropout", "learning_rate": "learning rate",
    "batch_size": "batch size", "accumulate": "number of accumulated batches", "weight_decay": "weight decay",
    "warmup": "warm-up",
}  # fmt: skip
_CHANCE = 0.05
_SIDES: tuple[Side, ...] = ("lower", "upper")
_ALL = {2: "Both"}
_END: dict[Side, dict[str, str]] = {
    "lower": {"try": "lower", "most": "lowest"},
    "upper": {"try": "higher", "most": "highest"},
}


def edges(situation: Situation) -> Iterator[Advice]:
    """All leaders have a hyperparameter's outermost value, more often than chance allows.

    Chance draws as many trials as there are leaders out of all that were evaluated, without replacement. It may do so
    in 5 % of draws, shared among all edges that are looked at (Bonferroni).
    """
    looked_at = [
        (key, domain, side)
        for key in _TITLES
        if (domain := situation.domain(key)) is not None and numbers(domain)
        for side in _SIDES
        if has_room(key, domain, side)
    ]
    for key, domain, side in looked_at:
        yield from _edge(situation, key, domain, side, _CHANCE / len(looked_at))


def _edge(situation: Situation, key: str, domain: Domain, side: Side, allowed: float) -> Iterator[Advice]:
    column = "alpha_over_rank" if key == "alpha" and domain.times_rank else key
    there = [at_edge(float(value), domain, side) for value in situation.evaluated[column]]
    leading = [at_edge(float(value), domain, side) for value in situation.leaders[column]]
    if not leading or not all(leading):
        return
    chance = math.comb(sum(there), len(leading)) / math.comb(len(there), len(leading))
    if chance >= allowed:
        return
    values = sorted(float(value) for value in situation.leaders[column])
    yield Advice(
        title=f"Try a {_END[side]['try']} {_TITLES[key]}",
        fact=(
            f"{_where(situation.called_leaders, _TITLES[key], values, domain, side)}; of all {len(there)} evaluated "
            f"trials {sum(there)} do. By chance that would happen in {units.share(chance)} of draws."
        ),
        why=(
            "The best value may lie outside of the space. The trials inside cannot say how far, so the space is "
            "widened a little: what lies beyond may also be worse."
        ),
        change={"space": {key: widened(key, domain, side)}},
    )


def _where(leaders: str, title: str, values: list[float], domain: Domain, side: Side) -> str:
    """Who stands where."""
    one, most = len(values) == 1, _END[side]["most"]
    whom = f"The {leaders}" if one else f"{_ALL.get(len(values), f'All {len(values)}')} {leaders}"
    times = " times the rank" if domain.times_rank else ""
    end = units.number(numbers(domain)[0 if side == "lower" else -1], 2) + times
    if isinstance(domain, Choice):
        return f"{whom} {'has' if one else 'have'} the {most} {title} of the space, {end}"
    said = " to ".join(dict.fromkeys(units.number(value, 2) for value in (values[0], values[-1]))) + times
    return f"{whom} {'lies' if one else 'lie'} near the {most} {title} of the space ({said}; its end is {end})"

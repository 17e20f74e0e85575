"""Edges of a hyperparameter's domain, and the domain that goes on beyond one."""

from __future__ import annotations

import math
from typing import Any, Literal

from search_spaces.domains import Choice, Domain, Range
from search_spaces.keys import KEYS

Side = Literal["lower", "upper"]
_EDGE = 0.1
"""The part of a range that counts as its edge."""
_MOST = 0.5
"""Shares such as dropout are not widened beyond this."""


def numbers(domain: Domain) -> list[float]:
    """The numbers of a list ascending, or the two ends of a range; empty for anything else."""
    found = [float(value) for value in domain.values() if isinstance(value, (int, float))]
    return sorted(found) if len(found) == len(domain.values()) else []


def at_edge(value: float, domain: Domain, side: Side) -> bool:
    """Whether a value is the last of a list, or lies in the outer tenth of a range."""
    known = numbers(domain)
    end = known[0] if side == "lower" else known[-1]
    if isinstance(domain, Choice):
        return math.isclose(value, end, rel_tol=1e-6, abs_tol=1e-12)
    low, high = (_scaled(one, domain) for one in (known[0], known[-1]))
    return abs(_scaled(value, domain) - _scaled(end, domain)) <= _EDGE * (high - low)


def has_room(key: str, domain: Domain, side: Side) -> bool:
    """Whether values beyond the edge exist at all: nothing is below a dropout of 0."""
    known, rule = numbers(domain), KEYS[key]
    if len(known) < 2 or known[0] == known[-1]:
        return False
    if side == "lower":
        return known[0] > max(rule.low, 1e-12) if not domain.times_rank else known[0] > 0
    return rule.below is None or known[-1] < _MOST


def widened(key: str, domain: Domain, side: Side) -> Any:
    """The domain with room beyond one edge, as YAML's values.

    A list gets one more value at the distance of the last two, a range half its width; where that is logarithmic, by a
    factor of at least 1.5 and at most 2.
    """
    known = numbers(domain)
    whole = KEYS[key].kind == "integer" and not domain.times_rank
    raw: Any
    if isinstance(domain, Range):
        raw = _wider_range(key, domain, side, whole)
    else:
        beyond = _beyond(key, known, side, whole)
        values = [beyond, *known] if side == "lower" else [*known, beyond]
        raw = [int(value) if whole else value for value in values]
    return {"times_rank": raw} if domain.times_rank else raw


def bounded_above(domain: Domain, most: float) -> Any | None:
    """The domain without what is above `most`, as YAML's values; None when nothing would be left of it."""
    known = numbers(domain)
    if isinstance(domain, Range):
        if not known[0] < most:
            return None
        return {domain.kind: [domain.low, _rounded_up(most)]}
    left = [value for value in known if value <= most * (1 + 1e-9)]
    return left or None


def _rounded_up(value: float) -> float:
    """To two digits."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / unit - 1e-9) * unit:.2g}")


def _scaled(value: float, domain: Domain) -> float:
    return math.log(value) if isinstance(domain, Range) and domain.log and value > 0 else value


def _wider_range(key: str, domain: Range, side: Side, whole: bool) -> dict[str, Any]:
    low, high = float(domain.low), float(domain.high)
    if domain.log:
        factor = min(2.0, max(1.5, math.sqrt(high / low)))
        ends = (low / factor, high) if side == "lower" else (low, high * factor)
    else:
        room = (high - low) / 2
        ends = (low - room, high) if side == "lower" else (low, high + room)
    moved = _tidy(_inside(key, ends[0] if side == "lower" else ends[1], domain.times_rank), whole)
    if domain.step > 1:
        moved = low + domain.step * round((moved - low) / domain.step)
    bounds = [moved, domain.high] if side == "lower" else [domain.low, moved]
    raw: dict[str, Any] = {domain.kind: [int(one) if domain.integer else float(one) for one in bounds]}
    return raw | ({"step": domain.step} if domain.step > 1 else {})


def _beyond(key: str, known: list[float], side: Side, whole: bool) -> float:
    last, before = (known[0], known[1]) if side == "lower" else (known[-1], known[-2])
    geometric = min(last, before) > 0 and max(last, before) / min(last, before) >= 1.5
    moved = last * last / before if geometric else 2 * last - before
    return _tidy(_inside(key, moved, False), whole)


def _inside(key: str, value: float, times_rank: bool) -> float:
    rule = KEYS[key]
    if times_rank:
        return value
    low = rule.low if not rule.above else 1e-12
    return min(max(value, low), _MOST if rule.below is not None else math.inf)


def _tidy(value: float, whole: bool) -> float:
    return float(max(1, round(value))) if whole else float(f"{value:.2g}")

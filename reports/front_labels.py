"""Which trials of a front are named in the figure: those whose names have room. The others have theirs on hovering."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from reports.figure_info import FrontInfo, TrialPoint

_WIDTH, _HEIGHT = 560, 300
"""Pixels of the plot on a page of moderate width."""
_CHARACTER, _LINE, _GAP = 7.5, 16, 4
"""Pixels of a character, of a line of text, and between a point and its name."""

Side = Literal["top left", "top right"]
Box = tuple[float, float, float, float]


def names_with_room(info: FrontInfo) -> dict[str, Side]:
    """Trial to the side on which its name stands: both ends of the front first, then the others from the best on.

    A name stands left of its point, where the front's line does not run, or right of it where the plot begins.
    """
    places = _places(info.points)
    front = info.front
    taken: list[Box] = []
    found: dict[str, Side] = {}
    for point in [*front[-1:], *front[:1], *front[-2:0:-1]]:
        x, y = places[point.trial_id]
        width = len(point.label) * _CHARACTER
        side: Side = "top right" if x < width else "top left"
        left = x + _GAP if side == "top right" else x - _GAP - width
        box = (left, y + _GAP, left + width, y + _GAP + _LINE)
        if point.trial_id not in found and not any(_overlap(box, other) for other in taken):
            taken.append(box)
            found[point.trial_id] = side
    return found


def _places(points: Sequence[TrialPoint]) -> dict[str, tuple[float, float]]:
    """Trial to pixels from the lower left corner of a plot that just holds the points and their intervals."""
    costs = [math.log10(point.cost) for point in points]
    ends = [end for point in points for end in (point.quality, *(point.bounds or ()))]
    xs, ys = (min(costs), max(costs)), (min(ends), max(ends))
    return {
        point.trial_id: (_share(cost, xs) * _WIDTH, _share(point.quality, ys) * _HEIGHT)
        for point, cost in zip(points, costs, strict=True)
    }


def _share(value: float, span: tuple[float, float]) -> float:
    low, high = span
    return (value - low) / (high - low) if high > low else 0.5


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]

"""What a number of examples can tell: the Wilson interval of a share, and whether two figures can be told apart."""

from __future__ import annotations

import math
from dataclasses import dataclass

from reports.metric import Metric

Z95 = 1.959964
"""The normal quantile that leaves 2.5 % on each side."""


def wilson(share: float, examples: int, z: float = Z95) -> tuple[float, float]:
    """The Wilson score interval of a share, 95 % by default (Wilson 1927).

    Args:
        share: successes over examples, in [0, 1].
        examples: how many, at least 1.
        z: normal quantile.

    Raises:
        ValueError: `share` or `examples` is out of range.
    """
    if not 0 <= share <= 1 or examples < 1:
        raise ValueError(f"share must be in [0, 1] and examples at least 1, got {share} and {examples}")
    scale = 1 + z * z / examples
    centre = (share + z * z / (2 * examples)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / examples + z * z / (4 * examples * examples))
    return max(0.0, centre - half), min(1.0, centre + half)


def interval(metric: Metric, value: float | None, examples: int | None) -> tuple[float, float] | None:
    """The 95 % interval of a measured value; None where a binomial one does not apply or the size is unknown."""
    if not metric.is_proportion or not examples or value is None or not 0 <= value <= 1:
        return None
    return wilson(value, examples)


@dataclass(frozen=True)
class Comparison:
    """Two values of one metric on equally many examples.

    Attributes:
        gain: how much better the first is; negative when it is worse.
        half_width: approximate 95 % half-width of the difference; None where it is not known.
    """

    gain: float
    half_width: float | None

    @property
    def told_apart(self) -> bool | None:
        """Whether the difference exceeds its half-width; None where that is not known."""
        return None if self.half_width is None else bool(abs(self.gain) > self.half_width)


def compare(metric: Metric, value: float, over: float, examples: int | None) -> Comparison:
    """Compare two values, treating them as measured on independent examples.

    Both saw the same examples, which makes the true half-width smaller as a rule: this one errs towards
    "cannot be told apart".
    """
    first, second = interval(metric, value, examples), interval(metric, over, examples)
    half = None
    if first is not None and second is not None:
        half = math.hypot((first[1] - first[0]) / 2, (second[1] - second[0]) / 2)
    return Comparison(metric.gain(value, over), half)

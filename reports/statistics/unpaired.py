"""What two figures and a number of examples can tell, where the outcomes on each example are absent."""

from __future__ import annotations

import math
from dataclasses import dataclass

from reports.metric import Metric
from reports.statistics.intervals import wilson


@dataclass(frozen=True)
class Comparison:
    """Two values of one metric on the same examples.

    Attributes:
        gain: how much better the first is; negative when it is worse.
        half_width: half of the difference's 95 % interval; None where it is not known.
        bounds: the 95 % interval of `gain`; None where it is not known.
        p_value: of no difference, two-sided; None where it was not computed.
        paired: whether the outcomes were compared example by example.
    """

    gain: float
    half_width: float | None
    bounds: tuple[float, float] | None = None
    p_value: float | None = None
    paired: bool = False

    @property
    def told_apart(self) -> bool | None:
        """Whether the interval of the difference leaves out 0; None where that is not known."""
        return None if self.bounds is None else not self.bounds[0] <= 0 <= self.bounds[1]


def interval(metric: Metric, value: float | None, examples: int | None) -> tuple[float, float] | None:
    """The 95 % interval of a measured value; None where a binomial one does not apply or the size is unknown."""
    if not metric.is_proportion or not examples or value is None or not 0 <= value <= 1:
        return None
    return wilson(value, examples)


def compare(metric: Metric, value: float, over: float, examples: int | None) -> Comparison:
    """Compare two values, treating them as measured on independent examples.

    Both saw the same examples, which makes the true half-width smaller as a rule: this one errs towards
    "cannot be told apart".
    """
    gain = metric.gain(value, over)
    first, second = interval(metric, value, examples), interval(metric, over, examples)
    if first is None or second is None:
        return Comparison(gain, None)
    half = math.hypot((first[1] - first[0]) / 2, (second[1] - second[0]) / 2)
    return Comparison(gain, half, (gain - half, gain + half))

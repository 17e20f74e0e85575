"""How good is this configuration: over seeds as well as over examples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance

from reports.statistics.normal import Z95
from reports.statistics.student import t975


@dataclass(frozen=True)
class SeedSummary:
    """One configuration over several seeds.

    Attributes:
        seeds: how many, at least 2.
        mean: of the metric.
        spread: standard deviation between seeds.
        bounds: 95 % interval of the configuration's mean quality over seeds and examples.
    """

    seeds: int
    mean: float
    spread: float
    bounds: tuple[float, float]


def over_seeds(
    values: Sequence[float], example_error: float, within: tuple[float, float] = (-math.inf, math.inf)
) -> SeedSummary | None:
    """The mean over seeds with an interval for new seeds and new examples; one seed gives None.

    Student's half-width between seeds and the normal one between examples add as squares: all seeds share their
    examples, so the spread between seeds does not hold what those examples do to all of them.

    Args:
        values: the metric of each seed on the same examples.
        example_error: what the examples do to all seeds alike, as a standard error: the root of the mean covariance
            between two seeds. What they do to each seed by itself is in the spread between seeds already.
        within: the metric's range, where the interval ends too.
    """
    if len(values) < 2:
        return None
    mean, between = fmean(values), variance(values)
    half = math.hypot(t975(len(values) - 1) * math.sqrt(between / len(values)), Z95 * example_error)
    return SeedSummary(
        len(values), mean, math.sqrt(between), (max(within[0], mean - half), min(within[1], mean + half))
    )

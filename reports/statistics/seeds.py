"""How good is this configuration: over seeds as well as over examples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, variance

_T975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
"""Student's 97.5 % quantile for 1 to 10 degrees of freedom."""


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


def over_seeds(values: Sequence[float], example_error: float) -> SeedSummary | None:
    """The mean over seeds with an interval for new seeds and new examples; one seed gives None.

    Student's half-width between seeds and the normal one between examples add as squares: all seeds share their
    examples, so the spread between seeds does not hold what those examples do to all of them.

    Args:
        values: the metric of each seed on the same examples.
        example_error: the standard error of their mean over examples.
    """
    if len(values) < 2:
        return None
    mean, between = fmean(values), variance(values)
    half = math.hypot(t975(len(values) - 1) * math.sqrt(between / len(values)), t975(10**6) * example_error)
    return SeedSummary(len(values), mean, math.sqrt(between), (mean - half, mean + half))


def t975(freedom: int) -> float:
    """Student's 97.5 % quantile, within 0.001: a table, then the expansion of Cornish & Fisher."""
    if freedom <= len(_T975):
        return _T975[freedom - 1]
    z = NormalDist().inv_cdf(0.975)
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3

"""How good are these configurations: several seeds of each, on the same examples, and how far each is from the best.

A metric q_cs of configuration c with seed s has three sources of chance: the seed, the examples, and how this seed
meets these examples. The spread between seeds holds the first and the third; what is left is what the examples do to
all seeds alike, the mean covariance over examples between two different seeds. So with V_c = s_c^2 / S_c and C_c that
covariance, a mean has the half-width hypot(t sqrt(V_c), z sqrt(C_c)), with Student's t for S_c - 1 degrees of freedom.

The difference of two configurations has V = V_b + V_c and C = C_bb + C_cc - 2 C_bc, and Welch's degrees of freedom for
V: spreads may differ, since a high rate collapses with some seeds and a low one with none. Each is compared with the
configuration of the best mean at the level 1 - 0.05 / (k - 1), so that the true best is ruled out in at most 5 % of
runs.

Sources: Welch 1938 (unequal spreads); Bonferroni's inequality, where Dunnett 1955 has a slightly smaller quantile for
equal spreads; Owen 2007 (two-way variances, rows and columns both drawn). docs/statistics.md has the measured coverage.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reports.statistics import normal
from reports.statistics.normal import Floats
from reports.statistics.seeds import SeedSummary, over_seeds
from reports.statistics.student import quantile

Bounds = tuple[float, float]


@dataclass(frozen=True)
class BesideBest:
    """One configuration of k.

    Attributes:
        over_seeds: its mean over seeds with an interval; None for a single seed or where the examples are not known.
        gain: how much better its mean is than the best mean, at most 0.
        bounds: the 95 % interval of that, for all k - 1 comparisons with the best at once; None for the best itself and
            where it is not known.
    """

    over_seeds: SeedSummary | None
    gain: float
    bounds: Bounds | None

    @property
    def ruled_out(self) -> bool:
        """Whether the configuration cannot be the best of these."""
        return self.bounds is not None and self.bounds[1] < 0


def compare_configurations(
    values: Sequence[Sequence[float]],
    covariance: Floats | None,
    sign: int,
    risk: float = 0.05,
    within: Bounds = (-math.inf, math.inf),
) -> list[BesideBest]:
    """Compare k configurations with the one that has the best mean.

    Args:
        values: the metric of each seed, at least one, by configuration.
        covariance: [K, K] over examples, of all seeds in the order of `values`; None where it is not known.
        sign: 1 where a larger metric is better, -1 where a smaller one is.
        risk: in (0, 1), that any of the intervals fails.
        within: the metric's range.
    """
    means = [sum(own) / len(own) for own in values]
    best = max(range(len(values)), key=lambda c: sign * means[c])
    shared = None if covariance is None else shared_covariance(covariance, [len(own) for own in values])
    level = 1 - risk / max(1, len(values) - 1)
    found = []
    for c, own in enumerate(values):
        gain = sign * (means[c] - means[best])
        summary = bounds = None
        if shared is not None:
            summary = over_seeds(own, math.sqrt(max(0.0, shared[c, c])), within)
            half = None if c == best else half_width(own, values[best], _between(shared, c, best), level)
            bounds = None if half is None else (gain - half, gain + half)
        found.append(BesideBest(summary, gain, bounds))
    return found


def shared_covariance(covariance: Floats, seeds: Sequence[int]) -> Floats:
    """The mean covariance over examples between two different seeds: [K, K] of seeds -> [k, k] of configurations.

    On the diagonal the two seeds belong to one configuration; NaN where that has only one.
    """
    ends = np.cumsum(seeds)
    parts = [slice(end - size, end) for end, size in zip(ends, seeds, strict=True)]
    shared = np.array([[covariance[a, b].mean() for b in parts] for a in parts])
    for c, (part, size) in enumerate(zip(parts, seeds, strict=True)):
        block = covariance[part, part]
        shared[c, c] = (block.sum() - np.trace(block)) / (size * (size - 1)) if size > 1 else math.nan
    return shared


def half_width(first: Sequence[float], second: Sequence[float], shared: float, level: float) -> float | None:
    """Of the interval of the difference of two means over seeds; None where seeds and examples show no noise.

    Args:
        first, second: the metric of each seed.
        shared: what the examples do to the difference, the same with all seeds, as a variance.
        level: in (0, 1), two-sided.
    """
    if min(len(first), len(second)) < 2:
        return None
    errors = [float(np.var(own, ddof=1)) / len(own) for own in (first, second)]
    own_freedom = [len(own) - 1 for own in (first, second)]
    upper = (1 + level) / 2
    between = 0.0
    if sum(errors) > 0:
        freedom = sum(errors) ** 2 / sum(e**2 / f for e, f in zip(errors, own_freedom, strict=True))
        between = quantile(upper, freedom) * math.sqrt(sum(errors))
    half = math.hypot(between, normal.two_sided(level) * math.sqrt(max(0.0, shared)))
    return half if half > 0 else None


def _between(shared: Floats, a: int, b: int) -> float:
    """NaN where one of the configurations has a single seed."""
    return float(shared[a, a] + shared[b, b] - 2 * shared[a, b])

"""How good is this adapter: intervals of one trial's metric, whose uncertainty is that of the examples.

Wilson's interval for accuracy; for every other metric the bias-corrected and accelerated bootstrap (BCa), which
resamples the examples and computes the metric again.
"""

from __future__ import annotations

import math

import numpy as np

from reports.statistics import normal
from reports.statistics.normal import Z95, Floats
from reports.statistics.samples import Sample, estimates


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


def bca(values: Floats, replicates: Floats, leave_one_out: Floats, level: float = 0.95) -> Floats:
    """The BCa bootstrap interval (Efron 1987; Efron & Tibshirani 1993, equations 14.9 to 14.15).

    Args:
        values: [K], the metric on the sample.
        replicates: [B, K], on the resamples.
        leave_one_out: [K, n], without each example.
        level: in (0, 1).

    Returns:
        [K, 2], lower and upper; NaN where no resample differs from another, since then they cannot tell.
    """
    bias = bias_correction(values, replicates)
    skew = acceleration(leave_one_out)
    ends = normal.quantile([(1 - level) / 2, (1 + level) / 2])[None, :] + bias[:, None]
    probabilities = normal.cdf(bias[:, None] + ends / (1 - skew[:, None] * ends))
    bounds = _quantiles(replicates, probabilities)
    bounds[np.ptp(replicates, axis=0) == 0] = math.nan
    return bounds


def bias_correction(values: Floats, replicates: Floats) -> Floats:
    """z0 [K]: where the value stands among its resamples, as a normal quantile; equal resamples count half."""
    below = ((replicates < values).mean(axis=0) + (replicates <= values).mean(axis=0)) / 2
    edge = 0.5 / len(replicates)
    return normal.quantile(np.clip(below, edge, 1 - edge))


def acceleration(leave_one_out: Floats) -> Floats:
    """a [K]: a sixth of the skewness of what each example contributes; 0 where no example matters."""
    shares = leave_one_out.mean(axis=1, keepdims=True) - leave_one_out
    spread = (shares**2).sum(axis=1) ** 1.5
    skew: Floats = np.divide((shares**3).sum(axis=1), 6 * spread, out=np.zeros_like(spread), where=spread > 0)
    return skew


def intervals(sample: Sample, replicates: Floats, level: float = 0.95) -> Floats:
    """The interval of every trial by the method that suits the metric, [K, 2]; NaN where there is none."""
    values = estimates(sample)
    if sample.binary:
        z = normal.two_sided(level)
        return np.array([wilson(min(1.0, value), sample.examples, z) for value in values]).reshape(-1, 2)
    if sample.examples < 2:
        return np.full((len(values), 2), math.nan)
    return bca(values, replicates, sample.leave_one_out(), level)


def _quantiles(replicates: Floats, probabilities: Floats) -> Floats:
    """Each trial's own quantiles of its resamples, linear between them: [B, K], [K, 2] -> [K, 2]."""
    ordered = np.sort(replicates, axis=0)
    place = probabilities * (len(ordered) - 1)
    low = np.clip(np.floor(place).astype(np.int64), 0, max(0, len(ordered) - 2))
    columns = np.arange(ordered.shape[1])[:, None]
    lower, upper = ordered[low, columns], ordered[np.minimum(low + 1, len(ordered) - 1), columns]
    found: Floats = lower + (place - low) * (upper - lower)
    return found

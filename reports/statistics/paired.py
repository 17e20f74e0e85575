"""Two trials compared on the same examples: the difference, its interval and its p-value."""

from __future__ import annotations

import math

import numpy as np

from reports.statistics import normal
from reports.statistics.intervals import acceleration, bca, bias_correction
from reports.statistics.normal import Z95, Floats
from reports.statistics.samples import MeanSample, Reals, Sample, estimates
from reports.statistics.unpaired import Comparison


def paired_comparison(sample: Sample, replicates: Floats, sign: int) -> Comparison:
    """Compare the first of two trials with the second, at 95 %.

    Accuracy is compared by the adjusted Wald interval of Agresti & Min (2005), everything else by the BCa bootstrap
    of the difference. The p-value is two-sided and belongs to the same interval: below 0.05 when it leaves out 0.

    Args:
        sample: two trials.
        replicates: [B, 2], their metric on the same resamples.
        sign: 1 where a larger metric is better, -1 where a smaller one is.
    """
    values = sign * estimates(sample)
    if isinstance(sample, MeanSample) and sample.binary:
        return _matched_shares(sample.values)
    gains = sign * (replicates[:, :1] - replicates[:, 1:])
    gain = values[:1] - values[1:]
    rest = sample.leave_one_out()
    without = sign * (rest[:1] - rest[1:])
    if np.ptp(gains) == 0:
        return Comparison(float(gain[0]), None, paired=True)
    low, high = (float(bound) for bound in bca(gain, gains, without)[0])
    return Comparison(float(gain[0]), (high - low) / 2, (low, high), _p_value(gain, gains, without), paired=True)


def _matched_shares(hits: Reals) -> Comparison:
    """Half an example is added to each cell of the two-by-two table, so that few disagreements do not look certain."""
    examples = hits.shape[1]
    better = float(((hits[0] > 0) & (hits[1] == 0)).sum())
    worse = float(((hits[1] > 0) & (hits[0] == 0)).sum())
    size = examples + 2
    centre = (better - worse) / size
    error = math.sqrt((better + worse + 1) - (better - worse) ** 2 / size) / size
    bounds = (max(-1.0, centre - Z95 * error), min(1.0, centre + Z95 * error))
    p_value = 2 * float(normal.cdf(-abs(centre) / error))
    return Comparison((better - worse) / examples, Z95 * error, bounds, p_value, paired=True)


def _p_value(gain: Floats, gains: Floats, without: Floats) -> float:
    """The smallest 1 - level at which the BCa interval leaves out 0, at least 2 / (B + 1)."""
    resamples = len(gains)
    below = (float((gains < 0).mean()) + float((gains <= 0).mean())) / 2
    edge = 1 / (resamples + 1)
    place = float(normal.quantile(min(max(below, edge), 1 - edge)))
    bias, skew = float(bias_correction(gain, gains)[0]), float(acceleration(without)[0])
    shift = place - bias
    tail = float(normal.cdf(shift / (1 + skew * shift) - bias))
    return min(1.0, max(2 * edge, 2 * min(tail, 1 - tail)))

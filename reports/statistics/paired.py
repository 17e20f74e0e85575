"""Two trials compared on the same examples: the difference, its interval and its p-value."""

from __future__ import annotations

import math

import numpy as np

from reports.statistics import normal
from reports.statistics.normal import Z95
from reports.statistics.samples import MeanSample, Reals, Sample, estimates
from reports.statistics.student import t975, two_sided_p
from reports.statistics.unpaired import Comparison

_EXACT_BELOW = 25
"""Disagreements; from here on the normal distribution serves."""
_RISK = 0.05


def paired_comparison(sample: Sample, sign: int) -> Comparison:
    """Compare the first of two trials with the second, at 95 %.

    Accuracy is compared by the adjusted Wald interval of Agresti & Min (2005), everything else by Student's interval
    on the jackknife standard error (Efron & Tibshirani 1993, chapter 11), which for means is the paired t-test. The
    p-value is two-sided and belongs to the same interval: below 0.05 when that leaves out 0.

    Args:
        sample: two trials.
        sign: 1 where a larger metric is better, -1 where a smaller one is.
    """
    if isinstance(sample, MeanSample) and sample.binary:
        return _matched_shares(sample.values)
    values = sign * estimates(sample)
    gain, examples = float(values[0] - values[1]), sample.examples
    rest = sample.leave_one_out() if examples > 1 else np.zeros((2, 1))
    without = rest[0] - rest[1]
    error = math.sqrt((examples - 1) / examples * float(((without - without.mean()) ** 2).sum()))
    if not error > 0:
        return Comparison(gain, None, paired=True)
    half = t975(examples - 1) * error
    return Comparison(gain, half, (gain - half, gain + half), two_sided_p(gain / error, examples - 1), paired=True)


def sign_test(better: float, worse: float) -> float:
    """The exact two-sided p-value of as many disagreements for each of two trials, 1 for none (McNemar's test)."""
    from scipy.special import bdtr

    return min(1.0, 2 * float(bdtr(min(better, worse), int(better + worse), 0.5)))


def _matched_shares(hits: Reals) -> Comparison:
    """Half an example is added to each cell of the two-by-two table, so that few disagreements do not look certain.

    Below 25 disagreements the p-value is exact. It is the larger one; where it reaches 0.05, the interval is stretched
    to 0, so that both say the same.
    """
    examples = hits.shape[1]
    better = float(((hits[0] > 0) & (hits[1] == 0)).sum())
    worse = float(((hits[1] > 0) & (hits[0] == 0)).sum())
    size = examples + 2
    centre = (better - worse) / size
    error = math.sqrt((better + worse + 1) - (better - worse) ** 2 / size) / size
    bounds = (max(-1.0, centre - Z95 * error), min(1.0, centre + Z95 * error))
    p_value = 2 * float(normal.cdf(-abs(centre) / error))
    if better + worse < _EXACT_BELOW:
        p_value = sign_test(better, worse)
        if p_value >= _RISK:
            bounds = (min(bounds[0], 0.0), max(bounds[1], 0.0))
    return Comparison((better - worse) / examples, Z95 * error, bounds, p_value, paired=True)

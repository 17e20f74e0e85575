"""What chance may do to the metrics of several trials, on their scale: the bootstrap, and what it cannot see.

A trial without a single error has the same metric on every resample, so that the bootstrap takes it for certain; one
with two errors fares little better. Other examples might have shown an error. So every trial's noise gets an
independent normal part with the variance of half an example. docs/statistics.md has what the comparisons held without
and with it.
"""

from __future__ import annotations

import math

import numpy as np

from reports.statistics.normal import Floats
from reports.statistics.samples import Sample, estimates
from reports.statistics.scales import slope, stabilise

_HALF = 0.5
_QUARTILE = 0.75
_SEED = 0


def grain(sample: Sample) -> float:
    """By how much one example typically moves the difference between two trials, at least 0; 1/n for accuracy.

    Of each trial beside the leading one this is sum r^2 / sum |r| over the examples' contributions r to the difference,
    the mean size of a contribution, each weighted by itself. A few large errors then count as such among many examples
    on which the trials hardly differ. The upper quartile over trials: half of them may have no error to show, and a few
    may have diverged. In the unit of the metric, of its logarithm for perplexity.
    """
    if sample.binary:
        return 1 / sample.examples
    values = estimates(sample)
    if len(values) < 2:
        return 0.0
    leader = int(values.argmax() if sample.kind == "share" else values.argmin())
    parts = sample.contributions()
    apart = np.delete(parts, leader, axis=0) - parts[leader]
    sizes = np.abs(apart).sum(axis=1)
    typical = np.divide((apart**2).sum(axis=1), sizes, out=np.zeros_like(sizes), where=sizes > 0)
    return float(np.quantile(typical, _QUARTILE))


def scaled_noise(sample: Sample, replicates: Floats, size: float) -> tuple[Floats, Floats]:
    """The metric on its scale, and its noise there.

    Args:
        sample: the metric of K trials.
        replicates: [B, K], on resamples that all trials share.
        size: the sample's `grain`.

    Returns:
        [K], and [B, K], centred on it; the same for the same input.
    """
    scaled = stabilise(estimates(sample), sample.kind, size)
    noise = stabilise(replicates, sample.kind, size) - scaled
    if size > 0:
        unseen = math.sqrt(_HALF) * size * slope(scaled, sample.kind, size)
        noise += unseen * np.random.default_rng(_SEED).standard_normal(noise.shape)
    return scaled, noise

"""Corrections for having looked at several: all finalists at once, the winner's figure, several p-values."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from reports.statistics.noise import grain, scaled_noise
from reports.statistics.normal import Floats
from reports.statistics.samples import Sample


def simultaneous_level(sample: Sample, replicates: Floats, level: float = 0.95) -> float:
    """The level at which single intervals hold for all K trials together with probability `level`.

    The quantile of the largest |error| / standard error over the trials, found by the bootstrap, so that trials that
    agree on most examples cost little (single-step max-T: Romano & Wolf 2005). Whichever of the K was picked after
    looking at these figures, its interval at this level holds. Errors are those of `scaled_noise`, because a trial
    without a mistake has none in the bootstrap.

    Args:
        sample: the metric of the K trials.
        replicates: [B, K], on shared resamples.
        level: in (0, 1).

    Returns:
        At least `level`, which it is for one trial.
    """
    _, noise = scaled_noise(sample, replicates, grain(sample))
    errors = noise.std(axis=0, ddof=1)
    known = errors > 0
    if known.sum() < 2:
        return level
    largest = np.abs(noise[:, known] / errors[known]).max(axis=1)
    return max(level, math.erf(float(np.quantile(largest, level)) / math.sqrt(2)))


def optimism(values: Floats, replicates: Floats, sign: int) -> float:
    """How much better the best of K trials looks, on the examples that chose it, than it is.

    On every resample the best w is chosen again and judged by the examples that were not drawn. Their figure is
    2 q_w - q*_w to first order, which also serves metrics that are no means; the optimism is what the best loses by
    it. Bootstrap bias correction: Tsamardinos, Greasidou & Borboudakis 2018. The choice of the kept step is not in it.

    Args:
        values: [K], the metric.
        replicates: [B, K], on shared resamples.
        sign: 1 where a larger metric is better, -1 where a smaller one is.

    Returns:
        In the metric's unit, at least 0.
    """
    better = sign * values
    winners = (sign * replicates).argmax(axis=1)
    judged = 2 * better[winners] - sign * replicates[np.arange(len(replicates)), winners]
    return max(0.0, float(better.max() - judged.mean()))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted so that the risk of any false difference among them is held, whatever their dependence.

    Holm 1979, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6.

    Args:
        p_values: m of them, in [0, 1].

    Returns:
        In the same order, each at least as large as it was, at most 1.
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for place, at in enumerate(sorted(range(len(p_values)), key=lambda at: p_values[at])):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[at]))
        adjusted[at] = largest
    return adjusted

"""A paired difference of two ways to train over seeds: its interval, and the smallest effect that could have shown."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from reports.statistics.normal import Floats
from reports.statistics.seeds import over_seeds

POWER = 0.8
_Z80 = NormalDist().inv_cdf(POWER)
_T80 = (1.376, 1.061, 0.978, 0.941, 0.920, 0.906, 0.896, 0.889, 0.883, 0.879)
"""Student's 80 % quantile for 1 to 10 degrees of freedom."""


@dataclass(frozen=True)
class Effect:
    """How much better one way is than another.

    Attributes:
        gains: by seed; positive where the first is better.
        mean: of these.
        bounds: 95 % interval for new seeds and new examples.
        half_width: of it; a mean below it does not show.
        detectable: the true effect that shows with 80 % probability.
    """

    gains: tuple[float, ...]
    mean: float
    bounds: tuple[float, float]
    half_width: float
    detectable: float


def effect_over_seeds(gains: Floats, replicates: Floats) -> Effect | None:
    """The mean of paired differences with its interval; one seed gives None.

    The spread between seeds, by Student's t, and what the examples do to all seeds alike, by resampling, add as squares
    (`seeds.over_seeds`). The detectable effect is the half-width and as much again with 80 % quantiles in place of the
    97.5 % ones: (t_.975 + t_.80) standard errors without the examples, the usual approximation to the noncentral t.

    Args:
        gains: [S], by seed.
        replicates: [B, S], the same on resamples of the examples that all seeds share.
    """
    count = len(gains)
    if count < 2:
        return None
    common = np.cov(replicates, rowvar=False)[~np.eye(count, dtype=bool)].mean()
    shared = math.sqrt(max(0.0, float(common)))
    summary = over_seeds(gains.tolist(), shared)
    assert summary is not None
    half = summary.bounds[1] - summary.mean
    more = math.hypot(_t80(count - 1) * summary.spread / math.sqrt(count), _Z80 * shared)
    return Effect(tuple(gains.tolist()), summary.mean, summary.bounds, half, half + more)


def _t80(freedom: int) -> float:
    # beyond the table the first term of Cornish & Fisher's expansion is within 0.001
    return _T80[freedom - 1] if freedom <= len(_T80) else _Z80 + (_Z80**3 + _Z80) / (4 * freedom)

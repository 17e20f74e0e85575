"""Student's t."""

from __future__ import annotations

import math
from statistics import NormalDist

_T975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
"""The 97.5 % quantile for 1 to 10 degrees of freedom."""


def t975(freedom: int) -> float:
    """The 97.5 % quantile, within 0.001: a table, then the expansion of Cornish & Fisher (1937)."""
    if freedom <= len(_T975):
        return _T975[freedom - 1]
    z = NormalDist().inv_cdf(0.975)
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


def quantile(probability: float, freedom: float) -> float:
    """The value below which a probability lies; `freedom`, above 0, need not be whole."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, probability))


def two_sided_p(t: float, freedom: int) -> float:
    """The probability of a larger |t|, within 0.001 from 10 degrees of freedom on (Wallace 1959)."""
    z = (8 * freedom + 1) / (8 * freedom + 3) * math.sqrt(freedom * math.log1p(t * t / freedom))
    return 2 * NormalDist().cdf(-z)

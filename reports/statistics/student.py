"""Student's t."""

from __future__ import annotations


def t975(freedom: int) -> float:
    """The 97.5 % quantile."""
    return quantile(0.975, freedom)


def quantile(probability: float, freedom: float) -> float:
    """The value below which a probability lies; `freedom`, above 0, need not be whole."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, probability))


def two_sided_p(t: float, freedom: float) -> float:
    """The probability of a larger |t|."""
    from scipy.special import stdtr

    return float(2 * stdtr(freedom, -abs(t)))

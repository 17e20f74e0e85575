"""The standard normal distribution on arrays."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_STANDARD = NormalDist()
Z95 = _STANDARD.inv_cdf(0.975)
"""The normal quantile that leaves 2.5 % on each side."""


def cdf(values: npt.ArrayLike) -> Floats:
    """The probability below each value."""
    return _each(_STANDARD.cdf, values)


def quantile(probabilities: npt.ArrayLike) -> Floats:
    """The value below which each probability, in (0, 1), lies."""
    return _each(_STANDARD.inv_cdf, probabilities)


def two_sided(level: float) -> float:
    """The quantile of a two-sided interval of this level, 1.96 for 0.95."""
    return _STANDARD.inv_cdf((1 + level) / 2)


def _each(function: Any, values: npt.ArrayLike) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    return np.array([function(value) for value in array.ravel()], dtype=np.float64).reshape(array.shape)

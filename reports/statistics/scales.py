"""Scales on which the noise of a metric hardly depends on its value.

On the plain scale a trial that was lucky near 100 % also looks less noisy than it is, and a comparison that divides by
such a standard error rules out the true best too often. The transforms are increasing, so no order changes.
Sources: Anscombe 1948 (shares); the logarithm for what is positive with a spread that grows with the mean.
"""

from __future__ import annotations

import numpy as np

from reports.statistics.normal import Floats
from reports.statistics.samples import Kind

_TINY = 1e-12


def stabilise(values: Floats, kind: Kind, examples: int) -> Floats:
    """Values of a metric on the scale of its kind.

    Args:
        values: any shape.
        kind: `share`: arcsin sqrt((n x + 3/8) / (n + 3/4)); `loss`: log x; `perplexity`: log log x.
        examples: n.
    """
    if kind == "share":
        shares: Floats = np.arcsin(np.sqrt((examples * np.clip(values, 0, 1) + 0.375) / (examples + 0.75)))
        return shares
    positive = np.log(np.maximum(values, 1 + _TINY)) if kind == "perplexity" else values
    logarithms: Floats = np.log(np.maximum(positive, _TINY))
    return logarithms


def restore(values: Floats, kind: Kind, examples: int) -> Floats:
    """The inverse of `stabilise`; shares are held in [0, 1]."""
    if kind == "share":
        angles = np.clip(values, 0, np.pi / 2)
        shares: Floats = np.clip((np.sin(angles) ** 2 * (examples + 0.75) - 0.375) / examples, 0, 1)
        return shares
    with np.errstate(over="ignore"):
        positive: Floats = np.exp(values)
        exponential: Floats = np.exp(positive) if kind == "perplexity" else positive
    return exponential

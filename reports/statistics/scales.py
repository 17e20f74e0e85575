"""Scales on which the noise of a metric hardly depends on its value.

On the plain scale a trial that was lucky near 100 % also looks less noisy than it is, and a comparison that divides by
such a standard error rules out the true best too often. The transforms are increasing, so no order changes.
Sources: Anscombe 1948 (shares, with 3/8 of an example added); the logarithm for what is positive with a spread that
grows with the mean, with as much of an example added.
"""

from __future__ import annotations

import numpy as np

from reports.statistics.normal import Floats
from reports.statistics.samples import Kind

_TINY = 1e-12
_PART = 0.375
"""Of an example, added to every figure."""


def stabilise(values: Floats, kind: Kind, grain: float) -> Floats:
    """Values of a metric on the scale of its kind.

    Args:
        values: any shape.
        kind: `share`: arcsin sqrt((x + 3/8 g) / (1 + 3/4 g)); `loss`: log(x + 3/8 g); `perplexity`:
            log(log x + 3/8 g).
        grain: g, at least 0, by how much one example moves the figure (1/n for accuracy); see `grain`.
    """
    if kind == "share":
        shares: Floats = np.arcsin(np.sqrt((np.clip(values, 0, 1) + _PART * grain) / (1 + 2 * _PART * grain)))
        return shares
    positive = np.log(np.maximum(values, 1 + _TINY)) if kind == "perplexity" else values
    logarithms: Floats = np.log(np.maximum(positive, _TINY) + _PART * grain)
    return logarithms


def restore(values: Floats, kind: Kind, grain: float) -> Floats:
    """The inverse of `stabilise`, held in the metric's range."""
    if kind == "share":
        angles = np.clip(values, 0, np.pi / 2)
        shares: Floats = np.clip(np.sin(angles) ** 2 * (1 + 2 * _PART * grain) - _PART * grain, 0, 1)
        return shares
    with np.errstate(over="ignore"):
        positive: Floats = np.maximum(np.exp(values) - _PART * grain, 0)
        exponential: Floats = np.exp(positive) if kind == "perplexity" else positive
    return exponential


def slope(scaled: Floats, kind: Kind, grain: float) -> Floats:
    """By how much the scale rises with the metric (with its logarithm for perplexity), at values on the scale."""
    if kind == "share":
        steep: Floats = 1 / (np.sin(2 * scaled) * (1 + 2 * _PART * grain))
        return steep
    return np.exp(-scaled)

"""What an evaluation found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Scores:
    """What an adapter answered on a split, in the split's order.

    Attributes:
        logits: fp32 [n, classes]; None for causal-lm.
        nll_sum: fp32 [n], summed over each example's targets.
        targets: int64 [n].
    """

    logits: np.ndarray | None
    nll_sum: np.ndarray
    targets: np.ndarray

"""Whether an exported adapter answers as it did in its run.

The run may have computed in bf16, where every value is rounded to 8 significant bits, and the check computes in fp32
where it can. Rounding turns a few answers that were nearly undecided; it does not turn many, and it does not move the
figure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from lora_sweep.export.figures import Bounds

MOST_DIFFERING = 0.01
"""Share of the examples that rounding may answer differently."""
EXACT_TOLERANCE, ROUNDED_TOLERANCE = 0.01, 0.2
"""Nats per scored token by which an example's loss may differ and count as the same answer: both in fp32, or not."""

Level = Literal["same", "rounding", "different"]


@dataclass(frozen=True)
class Agreement:
    """The exported adapter's answers beside those of its run.

    Attributes:
        part: on which part of the data.
        examples: in both.
        differing: how many are answered differently: another class, or a loss that is further away than `tolerance`.
        tolerance: nats per scored token; None for classification.
        level: `same`: at most one example in a hundred differs. `rounding`: more do, but one side was computed in less
            than fp32 and the figure lies inside the interval of the run's. `different`: anything else.
    """

    part: str
    examples: int
    differing: int
    tolerance: float | None
    level: Level


def agreement(
    found: pd.DataFrame, recorded: pd.DataFrame, value: float, bounds: Bounds | None, rounded: bool
) -> Agreement:
    """Compare outcomes of one part of the data.

    Args:
        found: of the exported adapter.
        recorded: of its run.
        value: the run's metric as found.
        bounds: the interval of that metric as recorded; None when there is none.
        rounded: whether one of the two was computed in less than fp32, or from rounded weights.
    """
    both = found.merge(recorded, on="example_id", suffixes=("", "_run"), validate="one_to_one")
    tolerance = None
    if "prediction" in both:
        turned = both["prediction"] != both["prediction_run"]
    else:
        gap = np.abs(both["nll_sum"] - both["nll_sum_run"]) / both["tokens"].clip(lower=1)
        tolerance = ROUNDED_TOLERANCE if rounded else EXACT_TOLERANCE
        turned = ~(gap <= tolerance)  # NaN differs
    differing = int(turned.sum()) + max(len(found), len(recorded)) - len(both)
    examples = max(len(found), len(recorded))
    level: Level = "different"
    if differing <= MOST_DIFFERING * examples:
        level = "same"
    elif rounded and bounds is not None and bounds[0] <= value <= bounds[1]:
        level = "rounding"
    return Agreement(str(found["split"].iloc[0]), examples, differing, tolerance, level)

"""How many examples a comparison needs."""

from __future__ import annotations

import math

from reports.statistics import Comparison
from reports.statistics.normal import Z95, quantile

POWER = 0.8


def examples_needed(pair: Comparison, examples: int | None, difference: float) -> int | None:
    """How many examples show a difference at 5 % (two-sided) with 80 % power, comparing example by example.

    n (z_{0.975} + z_{0.8})^2 (SE / difference)^2, with SE the standard error of the paired difference on n examples:
    for shares this is the rule for matched pairs with the observed share of disagreements (Connor 1987).

    Args:
        pair: the two trials on `examples` examples.
        examples: n; None when not known.
        difference: what is to be shown, above 0.

    Returns:
        The number, rounded to two digits; None where the trials were not compared example by example.
    """
    if not pair.paired or pair.half_width is None or not examples or difference <= 0:
        return None
    error = pair.half_width / Z95
    needed = examples * ((Z95 + float(quantile(POWER))) * error / difference) ** 2
    return int(float(f"{math.ceil(needed):.2g}"))

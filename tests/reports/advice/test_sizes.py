"""How many examples a difference needs."""

from __future__ import annotations

import numpy as np
import pytest

from reports.advice.sizes import examples_needed
from reports.statistics import MeanSample, paired_comparison


def test_examples_needed_is_the_rule_for_matched_pairs() -> None:
    """Connor (1987): (z (p)^0.5 + z' (p - d^2)^0.5)^2 / d^2, with p the share of disagreements, here 10 %."""
    hits = np.zeros((2, 1000), dtype=np.float32)
    hits[0, :60], hits[1, 60:100] = 1, 1
    pair = paired_comparison(MeanSample(hits, "share", binary=True), 1)
    found, share, gap = examples_needed(pair, 1000, 0.02), 0.1, 0.02
    expected = (1.96 * share**0.5 + 0.8416 * (share - gap**2) ** 0.5) ** 2 / gap**2
    assert found == pytest.approx(expected, rel=0.05)
    assert examples_needed(pair, 1000, 0.0) is None and examples_needed(pair, None, 0.02) is None

"""alpha / rank far from what is used elsewhere."""

from __future__ import annotations

from collections.abc import Iterator

from reports import units
from reports.advice.piece import Advice
from reports.advice.situation import Situation

_LOW, _HIGH = 0.5, 4.0


def scaling(situation: Situation) -> Iterator[Advice]:
    """Every trial has alpha / rank below 0.5, or every one above 4."""
    ratios = situation.evaluated["alpha_over_rank"].astype(float)
    if not len(ratios) or situation.domain("alpha") is None:
        return
    low, high = float(ratios.min()), float(ratios.max())
    if low >= _LOW and high <= _HIGH or not (high < _LOW or low > _HIGH):
        return
    small = high < _LOW
    span = units.number(low) if low == high else f"{units.number(low)} to {units.number(high)}"
    yield Advice(
        title="Try alpha of once or twice the rank",
        fact=f"alpha / rank is {span} in all {units.plural(len(ratios), 'trial')}.",
        why=(
            f"The update is multiplied by alpha / rank, so a value so {'small' if small else 'large'} acts like a much "
            f"{'lower' if small else 'higher'} learning rate for the adapters alone. 1 and 2 are the usual "
            "values, at which published learning rates hold; nothing in between was tried here."
        ),
        change={"space": {"alpha": {"times_rank": [1, 2]}}},
    )

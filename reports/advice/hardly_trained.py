"""Adapters that hardly moved from where they began."""

from __future__ import annotations

from collections.abc import Iterator

from reports import units
from reports.advice.domains import numbers
from reports.advice.piece import Advice
from reports.advice.situation import Situation

_MOVED = 0.01
_LEARNED = 0.02
_FEWEST = 3


def hardly_trained(situation: Situation) -> Iterator[Advice]:
    """In every trial B stayed below 1 % of A and the training loss fell by less than 2 %."""
    ends = situation.ends.reindex(situation.evaluated["trial_id"])
    moved = ends["norm_b_last"] / ends["norm_a_last"]
    fell = 1 - ends["train_loss_last"] / ends["train_loss_first"]
    known = moved.notna() & fell.notna()
    if known.sum() < _FEWEST or (moved[known] >= _MOVED).any() or (fell[known] >= _LEARNED).any():
        return
    rates = situation.evaluated["learning_rate"].astype(float)
    domain = situation.domain("learning_rate")
    high = max(numbers(domain), default=0.0) if domain is not None else 0.0
    yield Advice(
        title="Raise the learning rate",
        fact=(
            f"In all {units.plural(int(known.sum()), 'trial')} B, which starts at zero, ended below 1 % of A's norm "
            f"(median {units.share(moved[known].median())}), and the training loss fell by less than 2 % since the "
            f"first evaluation (median {units.share(fell[known].median())}). The learning rates were "
            f"{units.number(float(rates.min()), 2)} to {units.number(float(rates.max()), 2)}."
        ),
        why="The adapters are nearly what they were before training: the rate or alpha / rank is far too low.",
        change={"space": {"learning_rate": {"log_uniform": [high, 30 * high]}}} if high > 0 else {},
    )

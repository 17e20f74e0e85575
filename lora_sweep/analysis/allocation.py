"""Ranks under a budget: one rank after the other to the layer where it gains most for its parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

Gains = Mapping[str, Sequence[float]]
"""A layer's full name to what its first, second, ... rank gains: not negative, not rising, one unit for all layers."""


def allocate(gains: Gains, costs: Mapping[str, int], budget: int) -> dict[str, int]:
    """Place ranks greedily.

    With gains that do not rise this is the best placement but for what is left of the budget at the end. Ranks that
    nobody has a gain for go to the layer that has least, so that without any gain the placement is uniform.

    Args:
        gains: as many for each layer as ranks that it may get.
        costs: parameters of one rank of each layer.
        budget: parameters to spend at most.

    Returns:
        Layer to rank, 0 and up, in the order of `gains`.
    """
    ranks, left = dict.fromkeys(gains, 0), budget
    while True:
        open_ = [name for name, rank in ranks.items() if rank < len(gains[name]) and costs[name] <= left]
        if not open_:
            return ranks
        # the first of equals wins, so that the outcome depends on nothing but the figures
        best = max(open_, key=lambda name: (gains[name][ranks[name]] / costs[name], -ranks[name]))
        ranks[best] += 1
        left -= costs[best]


def falling(values: Sequence[float]) -> list[float]:
    """The closest sequence in least squares that does not rise, and is nowhere negative (pool adjacent violators)."""
    pools: list[tuple[float, int]] = []
    for value in values:
        total, count = float(value), 1
        while pools and pools[-1][0] / pools[-1][1] < total / count:
            before, size = pools.pop()
            total, count = total + before, count + size
        pools.append((total, count))
    return [max(0.0, total / count) for total, count in pools for _ in range(count)]


def gained(gains: Gains, ranks: Mapping[str, int]) -> float:
    """What a placement gains in all."""
    return float(sum(np.sum(gains[name][:rank]) for name, rank in ranks.items()))

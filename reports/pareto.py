"""The Pareto front: what no other candidate beats on every objective at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def pareto_front(costs: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Mark the rows that no other row dominates.

    A row dominates another when it is nowhere larger and somewhere smaller. Equal rows do not dominate each
    other: they are on the front together or not at all. A row with a NaN is never on it and dominates nothing.

    Args:
        costs: shape (n, k), smaller is better in every column; negate what should be large.

    Returns:
        A mask of shape (n,).

    Raises:
        ValueError: `costs` has not two dimensions, or no column.
    """
    table = np.asarray(costs, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] == 0:
        raise ValueError(f"costs must have the shape (n, k) with k >= 1, got {table.shape}")
    mask = np.zeros(len(table), dtype=np.bool_)
    known = np.flatnonzero(~np.isnan(table).any(axis=1))
    if len(known) == 0:
        return mask
    front = {1: _front_1, 2: _front_2}.get(table.shape[1], _front_k)
    mask[known] = front(table[known])
    return mask


def _front_1(costs: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    best: npt.NDArray[np.bool_] = costs[:, 0] == costs[:, 0].min()
    return best


def _front_2(costs: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """O(n log n): among equal first costs the least second cost stays if it beats all smaller first costs."""
    groups, member = np.unique(costs[:, 0], return_inverse=True)
    least = np.full(len(groups), np.inf)
    np.minimum.at(least, member, costs[:, 1])
    before = np.concatenate([[np.inf], np.minimum.accumulate(least)[:-1]])
    improves = least < before
    # the first group has nothing before it, and infinity is not less than infinity
    improves[0] = True
    front: npt.NDArray[np.bool_] = improves[member] & (costs[:, 1] == least[member])
    return front


def _front_k(costs: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """In lexicographic order no row is dominated by a later one, so each survivor only sweeps what follows."""
    order = np.lexsort(costs.T[::-1])
    rows = costs[order]
    alive = np.ones(len(rows), dtype=np.bool_)
    for i in range(len(rows)):
        if alive[i]:
            rest = rows[i + 1 :]
            dominated = (rows[i] <= rest).all(axis=1) & (rows[i] < rest).any(axis=1)
            alive[i + 1 :] &= ~dominated
    mask = np.zeros(len(rows), dtype=np.bool_)
    mask[order] = alive
    return mask

"""The padded lengths that rows may take.

A row is padded to the smallest bucket that holds it. Few buckets make large groups of equal shape, many make little
padding: one more is worth its own pass through the model only when it saves a tenth of the padded tokens. With the
number given, dynamic programming over the length histogram finds the buckets with the least padding.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

MOST_BUCKETS = 6
MULTIPLE = 8
LEAST_SAVING = 0.1


def choose_buckets(
    lengths: npt.NDArray[np.integer], longest: int, max_length: int, least_saving: float = LEAST_SAVING
) -> tuple[int, ...]:
    """The ascending buckets that minimise the padded tokens of `lengths`.

    Args:
        lengths: [n], tokens of the training rows, each at most `longest`.
        longest: tokens of the longest row anywhere; the last bucket is this, rounded up to a multiple of 8.
        max_length: upper limit of every bucket, multiple of 8 or not.
        least_saving: share of the padded tokens, in [0, 1), that one more bucket must save; at most 6 in any case.
    """
    padded = np.minimum(_round_up(np.append(lengths, longest)), max_length)
    ends, counts = np.unique(padded, return_counts=True)
    counts[-1] -= 1  # `longest` itself is no training row
    before = np.concatenate([[0], np.cumsum(counts)])  # before[i]: rows shorter than candidate i

    # cost[j]: least padded tokens of all rows up to candidate j, with j as the last bucket
    cost = before[1:] * ends
    last_bucket_before: list[npt.NDArray[np.int64]] = []
    for _ in range(1, min(MOST_BUCKETS, len(ends))):
        better, choice = _one_more_bucket(cost, before, ends)
        if better[-1] >= (1 - least_saving) * cost[-1]:
            break
        cost = better
        last_bucket_before.append(choice)
    chosen = [len(ends) - 1]
    for choice in reversed(last_bucket_before):
        if choice[chosen[-1]] >= 0:
            chosen.append(int(choice[chosen[-1]]))
    return tuple(int(ends[index]) for index in reversed(chosen))


def _one_more_bucket(
    cost: npt.NDArray[np.int64], before: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Costs with one bucket more, and the bucket before each last one (-1 where none is added)."""
    better, choice = cost.copy(), np.full(len(ends), -1, dtype=np.int64)
    for j in range(1, len(ends)):
        options = cost[:j] + (before[j + 1] - before[1 : j + 1]) * ends[j]
        best = int(options.argmin())
        if options[best] < better[j]:
            better[j], choice[j] = options[best], best
    return better, choice


def _round_up(lengths: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    return -(-lengths.astype(np.int64) // MULTIPLE) * MULTIPLE

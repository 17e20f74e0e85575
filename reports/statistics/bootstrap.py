"""Resampling examples with replacement, the same resamples for every trial (Efron & Tibshirani 1993)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from reports.statistics.normal import Floats
from reports.statistics.samples import Sample

RESAMPLES = 2000
_CELLS_AT_ONCE = 4_000_000


def resample_counts(examples: int, resamples: int = RESAMPLES, seed: int = 0) -> Iterator[npt.NDArray[np.float32]]:
    """How often each example is drawn, in batches of rows: [b, n], every row adding up to n.

    Args:
        examples: n, at least 1.
        resamples: rows over all batches, at least 1.
        seed: the same seed gives the same resamples for every trial and metric.
    """
    random = np.random.default_rng(seed)
    rows = max(1, min(resamples, _CELLS_AT_ONCE // examples))
    for first in range(0, resamples, rows):
        batch = min(rows, resamples - first)
        drawn = random.integers(0, examples, size=(batch, examples))
        drawn += np.arange(batch)[:, None] * examples
        counts = np.bincount(drawn.ravel(), minlength=batch * examples)
        yield counts.reshape(batch, examples).astype(np.float32)


def replicates(sample: Sample, batches: Iterable[npt.NDArray[np.float32]] | None = None, seed: int = 0) -> Floats:
    """The metric on every resample, [B, K].

    Args:
        sample: the metric on the examples.
        batches: the resamples; by default `RESAMPLES` drawn with `seed`.
        seed: for the default.
    """
    drawn = resample_counts(sample.examples, RESAMPLES, seed) if batches is None else batches
    return np.concatenate([sample.recompute(counts) for counts in drawn])

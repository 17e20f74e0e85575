"""How the rows of a pack become forward passes.

Rows of one padded length form a pass, sorted by slot so that each slot is one segment; a pass holds at most so many
padded tokens. A row's padded length depends on the row alone, so that a trial's arithmetic does not depend on its
company.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lora_sweep.tasks import EncodedSplit, EncodedTask, choose_buckets

_EVALUATION_SAVING = 0.02


@dataclass(frozen=True)
class PackRows:
    """Rows of several trials.

    Attributes:
        owner: int64 [n], which trial of the pack a row belongs to; ascending.
        example: int64 [n], its example in the split.
        number: int64 [n], its number within its trial's batch.
    """

    owner: np.ndarray
    example: np.ndarray
    number: np.ndarray

    @classmethod
    def of(cls, batches: Sequence[np.ndarray]) -> PackRows:
        """One batch of examples for each trial of the pack."""
        return cls(
            np.repeat(np.arange(len(batches)), [len(batch) for batch in batches]),
            np.concatenate(batches),
            np.concatenate([np.arange(len(batch)) for batch in batches]),
        )

    def take(self, rows: np.ndarray) -> PackRows:
        """The rows at these positions."""
        return PackRows(self.owner[rows], self.example[rows], self.number[rows])

    def spans(self) -> list[tuple[int, int, int]]:
        """(trial of the pack, first row, last row + 1) of every trial that has rows here."""
        owners, starts = np.unique(self.owner, return_index=True)
        stops = [*starts[1:], len(self.owner)]
        return [(int(o), int(a), int(b)) for o, a, b in zip(owners, starts, stops, strict=True)]


def passes(
    task: EncodedTask, split: EncodedSplit, rows: PackRows, tokens_per_pass: int
) -> Iterator[tuple[int, PackRows]]:
    """Cut rows into passes, each with its padded length; at least one row a pass."""
    lengths = task.bucket_of(split.lengths[rows.example])
    for length in np.unique(lengths):
        yield from _cut(rows.take(np.nonzero(lengths == length)[0]), int(length), tokens_per_pass)


def evaluation_lengths(task: EncodedTask, split: EncodedSplit) -> np.ndarray:
    """The padded length of every example of a split when it is evaluated: int64 [n].

    A pass of an evaluation is large, so buckets that save two tokens of a hundred are worth a pass of their own.
    """
    longest = task.buckets[-1]
    buckets = np.array(choose_buckets(split.lengths, longest, longest, _EVALUATION_SAVING))
    return buckets[np.searchsorted(buckets, split.lengths)]


def evaluation_passes(lengths: np.ndarray, trials: int, tokens_per_pass: int) -> Iterator[tuple[int, PackRows]]:
    """Passes that show every example of a split to every trial of the pack, by the examples' padded lengths [n].

    One trial after the other, so that a pass has few adapters with many rows each.
    """
    for length in np.unique(lengths):
        (examples,) = np.nonzero(lengths == length)
        yield from _cut(PackRows.of([examples] * trials), int(length), tokens_per_pass)


def _cut(rows: PackRows, length: int, tokens_per_pass: int) -> Iterator[tuple[int, PackRows]]:
    per_pass = max(1, tokens_per_pass // length)
    for start in range(0, len(rows.owner), per_pass):
        yield length, rows.take(np.arange(start, min(start + per_pass, len(rows.owner))))


def targets_per_example(split: EncodedSplit) -> np.ndarray:
    """How many targets each example has: one label, or its scored tokens; int64 [n]."""
    if split.scored is None:
        return np.ones(len(split), dtype=np.int64)
    cumulated = np.concatenate([[0], np.cumsum(split.scored, dtype=np.int64)])
    return np.asarray(cumulated[split.offsets[1:]] - cumulated[split.offsets[:-1]])

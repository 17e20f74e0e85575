"""Encoded data as plain numpy arrays: what `prepare_task` returns and every training step reads.

The arrays are flat, so that a task of any size is a handful of buffers (Ray's object store maps them without a copy):
example `i` of a split holds the tokens `token_ids[offsets[i]:offsets[i + 1]]`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import numpy as np
import numpy.typing as npt

TaskType = Literal["classification", "causal-lm"]
Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Rows:
    """Some examples of a split, padded on the right to one length.

    Attributes:
        token_ids: [b, length].
        attention_mask: [b, length], 1 at tokens, 0 at padding.
        labels: [b], indices into the task's labels; None for causal-lm.
        scored: [b, length], True at tokens to be predicted from the one before; None for classification.
    """

    token_ids: Int64s
    attention_mask: Int64s
    labels: Int64s | None
    scored: Bools | None


@dataclass(frozen=True, eq=False)
class EncodedSplit:
    """One part of the data, tokenised and truncated.

    Attributes:
        name: `train`, `eval`, `test` or `holdout`.
        token_ids: [total], the examples one after the other.
        offsets: [n + 1], where each example begins; the last is `total`.
        labels: [n], indices into the task's labels; None for causal-lm.
        scored: [total], True where a token is to be predicted from the one before it, never at an example's first
            token; None for classification.
        example_ids: [n] of str, unique over the task and the same in every run on the same files.
    """

    name: str
    token_ids: Int32s
    offsets: Int64s
    labels: Int64s | None
    scored: Bools | None
    example_ids: npt.NDArray[np.str_]

    def __post_init__(self) -> None:
        assert self.offsets[0] == 0 and self.offsets[-1] == len(self.token_ids)
        assert len(self.example_ids) == len(self)
        assert self.labels is None or len(self.labels) == len(self)
        assert self.scored is None or len(self.scored) == len(self.token_ids)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Int64s:
        """Tokens of each example: [n]."""
        return np.diff(self.offsets)

    def rows(self, indices: npt.NDArray[np.integer], length: int, pad_id: int) -> Rows:
        """The examples at `indices`, padded on the right.

        Args:
            indices: [b], positions in this split.
            length: padded length, at least that of the longest of these examples.
            pad_id: the token that fills up.

        Raises:
            ValueError: an example is longer than `length`.
        """
        starts = self.offsets[indices]
        lengths = self.offsets[np.asarray(indices) + 1] - starts
        if lengths.size and lengths.max() > length:
            raise ValueError(f"an example of {lengths.max()} tokens does not fit rows of {length}")
        positions = np.arange(length)
        mask = positions < lengths[:, None]
        # padding reads some other example's tokens, which `where` then replaces
        where = np.minimum(starts[:, None] + positions, len(self.token_ids) - 1)
        return Rows(
            token_ids=np.where(mask, self.token_ids[where], pad_id).astype(np.int64, copy=False),
            attention_mask=mask.astype(np.int64),
            labels=None if self.labels is None else self.labels[indices],
            scored=None if self.scored is None else self.scored[where] & mask,
        )


@dataclass(frozen=True)
class Source:
    """Where a part of the data came from.

    Attributes:
        path: the file, or `hub:NAME/SUBSET@SPLIT`.
        sha256: hex digest of the file, or of the columns read from a hub data set.
        examples: data rows in it.
    """

    path: str
    sha256: str
    examples: int


@dataclass(frozen=True, eq=False)
class EncodedTask:
    """Everything that training and evaluation need to know of the data.

    Attributes:
        type: `classification` or `causal-lm`.
        splits: `train`, `eval`, `test` and, where some was set aside, `holdout`.
        labels: class names in the order of the label indices; empty for causal-lm.
        pad_id: the token that fills up rows.
        max_length: no example is longer.
        buckets: ascending padded lengths that a row can take; see `bucket_of`.
        notes: what was decided about the data and found in it, one sentence each.
        sources: the files read, by the part that they were given as.
    """

    type: TaskType
    splits: Mapping[str, EncodedSplit]
    labels: tuple[str, ...]
    pad_id: int
    max_length: int
    buckets: tuple[int, ...]
    notes: tuple[str, ...]
    sources: Mapping[str, Source]

    def bucket_of(self, lengths: npt.NDArray[np.integer]) -> Int64s:
        """The padded length of rows with these lengths: the smallest bucket that holds each.

        A row's padded length depends on the row alone, never on its batch.

        Args:
            lengths: tokens, any shape, each at most the last bucket.

        Raises:
            ValueError: a length is above the last bucket.
        """
        buckets = np.asarray(self.buckets, dtype=np.int64)
        lengths = np.asarray(lengths)
        if lengths.size and lengths.max() > buckets[-1]:
            raise ValueError(f"{lengths.max()} tokens are more than the longest bucket, {buckets[-1]}")
        return buckets[np.searchsorted(buckets, lengths)]


def flatten(rows: Sequence[Sequence[int]]) -> tuple[Int32s, Int64s]:
    """Token lists to (token_ids [total], offsets [n + 1])."""
    offsets = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    return np.fromiter(chain.from_iterable(rows), dtype=np.int32, count=int(offsets[-1])), offsets

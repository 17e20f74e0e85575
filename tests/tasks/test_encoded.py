from __future__ import annotations

import pickle

import numpy as np
import pytest

from lora_sweep.tasks import EncodedSplit, EncodedTask
from lora_sweep.tasks.encoded import flatten

ROWS = [[5, 6, 7], [8], [9, 10]]
MASKS = [[0, 1, 1], [0], [0, 1]]


@pytest.fixture
def split() -> EncodedSplit:
    tokens, offsets = flatten(ROWS)
    scored = flatten(MASKS)[0].astype(bool)
    return EncodedSplit("train", tokens, offsets, np.array([2, 0, 1]), scored, np.array(["a:1", "a:2", "a:3"]))


def test_types_and_lengths(split):
    assert (split.token_ids.dtype, split.offsets.dtype) == (np.int32, np.int64)
    assert len(split) == 3
    assert split.lengths.tolist() == [3, 1, 2]


def test_rows_are_padded_on_the_right(split):
    rows = split.rows(np.array([2, 0, 2]), 4, pad_id=99)
    assert rows.token_ids.tolist() == [[9, 10, 99, 99], [5, 6, 7, 99], [9, 10, 99, 99]]
    assert rows.attention_mask.tolist() == [[1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 0, 0]]
    assert rows.scored.tolist() == [
        [False, True, False, False],
        [False, True, True, False],
        [False, True, False, False],
    ]
    assert rows.labels.tolist() == [1, 2, 1]
    assert rows.token_ids.dtype == rows.attention_mask.dtype == rows.labels.dtype == np.int64
    assert rows.scored.dtype == np.bool_


def test_no_rows(split):
    assert split.rows(np.array([], dtype=np.int64), 8, pad_id=0).token_ids.shape == (0, 8)


def test_rows_against_a_loop(split):
    random = np.random.default_rng(0)
    lists = [random.integers(1, 1000, size=random.integers(1, 40)).tolist() for _ in range(200)]
    tokens, offsets = flatten(lists)
    many = EncodedSplit("eval", tokens, offsets, None, None, np.array([str(i) for i in range(200)]))
    indices = random.integers(0, 200, size=64)
    rows = many.rows(indices, 40, pad_id=0)
    assert rows.token_ids.tolist() == [lists[i] + [0] * (40 - len(lists[i])) for i in indices]
    assert rows.labels is None and rows.scored is None


def test_too_short_rows_are_refused(split):
    with pytest.raises(ValueError, match="an example of 3 tokens does not fit rows of 2"):
        split.rows(np.array([0]), 2, pad_id=0)


def test_read_only_arrays_do(split):
    for array in (split.token_ids, split.offsets, split.labels, split.scored):
        array.flags.writeable = False
    assert split.rows(np.array([1]), 8, pad_id=0).token_ids[0, 0] == 8


def test_buckets(split):
    task = EncodedTask("causal-lm", {"train": split}, (), 0, 32, (8, 16, 30), (), {})
    assert task.bucket_of(np.array([[1, 8], [9, 17]])).tolist() == [[8, 8], [16, 30]]
    with pytest.raises(ValueError, match="31 tokens are more than the longest bucket, 30"):
        task.bucket_of(np.array([31]))
    assert pickle.loads(pickle.dumps(task)).splits["train"].example_ids.tolist() == ["a:1", "a:2", "a:3"]

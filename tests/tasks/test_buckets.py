from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from lora_sweep.tasks.buckets import choose_buckets


def padded_tokens(lengths: np.ndarray, buckets: tuple[int, ...]) -> int:
    ends = np.array(buckets)
    return int(ends[np.searchsorted(ends, lengths)].sum())


def brute_force(lengths: np.ndarray, last: int, most: int) -> int:
    inner = range(8, last, 8)
    return min(padded_tokens(lengths, (*chosen, last)) for size in range(most) for chosen in combinations(inner, size))


@pytest.mark.parametrize("seed", range(20))
def test_as_little_padding_as_any_choice(seed):
    random = np.random.default_rng(seed)
    lengths = np.minimum(random.geometric(0.05, size=random.integers(1, 60)) + 1, 70)
    longest = int(lengths.max()) + int(random.integers(0, 20))
    buckets = choose_buckets(lengths, longest, 128, least_saving=0)
    last = -(-longest // 8) * 8
    assert buckets[-1] == last and len(buckets) <= 6
    assert list(buckets) == sorted(set(buckets)) and all(bucket % 8 == 0 for bucket in buckets)
    assert padded_tokens(lengths, buckets) == brute_force(lengths, last, 6)


def test_no_bucket_above_the_limit():
    assert choose_buckets(np.array([3, 20, 30]), 30, 30, least_saving=0) == (8, 24, 30)


def test_no_more_buckets_than_are_of_use():
    assert choose_buckets(np.full(50, 5), 5, 128) == (8,)
    assert choose_buckets(np.full(50, 5), 100, 128) == (8, 104)


def test_quick_with_many_lengths():
    lengths = np.random.default_rng(0).integers(1, 8_192, size=50_000)
    assert len(choose_buckets(lengths, 8_192, 8_192, least_saving=0)) == 6


def test_one_more_bucket_must_save_a_tenth():
    lengths = np.array([8] * 10 + [16] * 90)
    assert choose_buckets(lengths, 16, 16) == (16,)
    assert choose_buckets(lengths, 16, 16, least_saving=0.04) == (8, 16)

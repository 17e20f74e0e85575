from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from lora_sweep.errors import DataError
from lora_sweep.tasks.splits import Examples, normalised, overlap_notes, pick_stratified, split_examples


def examples(count: int, stem: str = "train", labels: list[str] | None = None) -> Examples:
    ids = [f"{stem}:{row}" for row in range(1, count + 1)]
    return Examples(f"/{stem}.csv", ids, [f"text {name}" for name in ids], labels)


def test_given_parts_stay_as_they_are():
    parts = {part: examples(4, part) for part in ("train", "eval", "test")}
    assert split_examples(parts, seed=0) == (parts, ())


def test_half_of_eval_becomes_test():
    labels = ["a"] * 6 + ["b"] * 4
    parts, notes = split_examples({"train": examples(20), "eval": examples(10, "eval", labels)}, seed=3)
    assert notes == ("No data.test: 5 of 10 eval examples were set aside as test (seed 3).",)
    assert Counter(parts["eval"].labels) == Counter(parts["test"].labels) == {"a": 3, "b": 2}
    assert sorted([*parts["eval"].ids, *parts["test"].ids]) == sorted(f"eval:{row}" for row in range(1, 11))
    rows = [int(name.split(":")[1]) for name in parts["eval"].ids]
    assert rows == sorted(rows)


def test_without_eval_a_fifth_of_train_is_set_aside_and_halved():
    labels = ["a"] * 70 + ["b"] * 29 + ["c"]
    parts, notes = split_examples({"train": examples(100, labels=labels)}, seed=0)
    assert [len(parts[part]) for part in ("train", "eval", "test")] == [80, 10, 10]
    assert len({name for part in parts.values() for name in part.ids}) == 100
    assert "c" in parts["train"].labels
    assert notes == (
        "No data.eval: 20 of 100 training examples were set aside (seed 0) as eval and test.",
        "No data.test: 10 of 20 eval examples were set aside as test (seed 0).",
    )


def test_at_most_two_thousand_are_set_aside():
    parts, _ = split_examples({"train": examples(20_000)}, seed=0)
    assert [len(parts[part]) for part in ("train", "eval", "test")] == [18_000, 1_000, 1_000]


def test_with_test_but_without_eval_nothing_is_halved():
    parts, notes = split_examples({"train": examples(50), "test": examples(5, "test")}, seed=0)
    assert [len(parts[part]) for part in ("train", "eval", "test")] == [40, 10, 5]
    assert notes == ("No data.eval: 10 of 50 training examples were set aside (seed 0) as eval.",)


def test_the_seed_decides():
    def chosen(seed: int) -> list[str]:
        return list(split_examples({"train": examples(50)}, seed)[0]["test"].ids)

    assert chosen(0) == chosen(0) != chosen(1)


def test_overlaps_are_noted_by_normalised_text():
    assert normalised("  \uff21 B\n c ") == "a b c"
    notes = overlap_notes({"train": ["A b", "c"], "eval": ["a  B", "a b", "d"], "test": ["e"]})
    assert notes == ["2 of 3 eval examples stand in train too (same text)."]


@pytest.mark.parametrize("count", [0, 1, 7, 33, 60])
def test_picks_are_exact_and_proportional(count):
    labels = ["a"] * 40 + ["b"] * 15 + ["c"] * 5
    picked = pick_stratified(labels, 60, count, np.random.default_rng(0))
    assert len(picked) == len(set(picked.tolist())) == count
    taken = Counter(labels[index] for index in picked)
    assert all(abs(taken[label] - count * size / 60) < 1 for label, size in Counter(labels).items())


def test_picks_keep_some_of_every_label():
    picked = pick_stratified(["a", "a", "b"], 3, 3, np.random.default_rng(0), keep=1)
    assert len(picked) == 1 and picked[0] in (0, 1)


def test_too_few_examples():
    with pytest.raises(DataError) as caught:
        split_examples({"train": examples(2)}, seed=0)
    assert str(caught.value) == (
        "/train.csv: must hold enough examples to set some aside for eval and test, got 2. "
        "Give more training data, or files for eval and test."
    )
    with pytest.raises(DataError) as caught:
        split_examples({"train": examples(9), "eval": examples(1, "eval")}, seed=0)
    assert str(caught.value) == (
        "/eval.csv: must hold at least 2 eval examples to set half aside as test, got 1. Give more, or a test file."
    )


def test_a_holdout_is_taken_from_what_would_be_trained_on():
    labels = ["a"] * 70 + ["b"] * 29 + ["c"]
    without, _ = split_examples({"train": examples(100, labels=labels)}, seed=4)
    parts, notes = split_examples({"train": examples(100, labels=labels)}, seed=4, holdout=0.1)
    assert (parts["eval"], parts["test"]) == (without["eval"], without["test"])
    assert [len(parts[part]) for part in ("train", "holdout")] == [72, 8]
    assert sorted([*parts["train"].ids, *parts["holdout"].ids]) == sorted(without["train"].ids)
    assert "c" in parts["train"].labels and Counter(parts["holdout"].labels) == {"a": 6, "b": 2}
    assert notes[-1] == "8 of 80 train examples were set aside as hold-out (seed 4): no trial trains on them."
    again, _ = split_examples({"train": examples(100, labels=labels)}, seed=4, holdout=0.1)
    assert again == parts


def test_a_holdout_has_at_most_512_examples_and_may_be_none():
    parts = {part: examples(20_000 if part == "train" else 4, part) for part in ("train", "eval", "test")}
    assert len(split_examples(parts, seed=0, holdout=0.9)[0]["holdout"]) == 512
    few = {part: examples(4, part) for part in ("train", "eval", "test")}
    assert split_examples(few, seed=0, holdout=0.05) == (few, ())

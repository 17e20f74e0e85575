from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.metrics import accuracy_score, f1_score, log_loss

from lora_sweep.tasks import (
    METRIC_MODES,
    EncodedSplit,
    EncodedTask,
    causal_lm_metrics,
    classification_metrics,
    majority_baseline,
    outcomes_frame,
)


def make_split(name: str, labels: list[int] | None, count: int | None = None) -> EncodedSplit:
    count = len(labels) if labels is not None else count
    tokens, offsets = np.ones(count, dtype=np.int32), np.arange(count + 1)
    ids = np.array([f"{name}:{row}" for row in range(count)])
    return EncodedSplit(name, tokens, offsets, None if labels is None else np.array(labels), None, ids)


def test_classification_against_scikit_learn():
    random = np.random.default_rng(0)
    logits = random.normal(size=(200, 5)).astype(np.float32) * 3
    labels = random.integers(0, 5, size=200)
    probabilities = np.exp(logits.astype(np.float64))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    metrics = classification_metrics(logits, labels)
    assert metrics["accuracy"] == accuracy_score(labels, logits.argmax(axis=1))
    assert metrics["macro_f1"] == f1_score(labels, logits.argmax(axis=1), average="macro")
    assert metrics["loss"] == pytest.approx(log_loss(labels, probabilities, labels=range(5)), rel=1e-12)


def test_macro_f1_counts_absent_classes():
    logits = np.array([[2.0, 0.0, 0.0], [2.0, 0.0, 0.0]])
    assert classification_metrics(logits, np.array([0, 0]))["macro_f1"] == pytest.approx(1 / 3)


def test_loss_survives_large_logits_and_shows_nan():
    logits = np.array([[1e4, 0.0], [0.0, 1e4]], dtype=np.float32)
    assert classification_metrics(logits, np.array([0, 0]))["loss"] == 5e3
    logits[0, 0] = np.nan
    assert math.isnan(classification_metrics(logits, np.array([0, 0]))["loss"])


def test_causal_lm_weights_by_tokens():
    metrics = causal_lm_metrics(np.array([2.0, 9.0], dtype=np.float32), np.array([1, 3]))
    assert metrics == {"loss": 2.75, "perplexity": pytest.approx(math.exp(2.75))}
    assert causal_lm_metrics(np.array([1e6]), np.array([1]))["perplexity"] == math.inf


def test_every_metric_has_a_direction():
    found = classification_metrics(np.eye(2), np.arange(2)) | causal_lm_metrics(np.ones(1), np.ones(1, dtype=int))
    assert set(METRIC_MODES) == set(found)
    assert METRIC_MODES["accuracy"] == "max" and METRIC_MODES["loss"] == "min"


def test_majority_baseline_against_scikit_learn():
    train, test = [0, 1, 1, 2, 1, 0], [1, 0, 2, 1]
    task = EncodedTask(
        "classification",
        {"train": make_split("train", train), "test": make_split("test", test)},
        ("a", "b", "c", "d"), 0, 8, (8,), (), {},
    )  # fmt: skip
    dummy = DummyClassifier(strategy="most_frequent").fit(np.zeros((6, 1)), train)
    found = majority_baseline(task, "test")
    predicted = dummy.predict(np.zeros((4, 1)))
    assert found["accuracy"] == accuracy_score(test, predicted)
    assert found["macro_f1"] == f1_score(test, predicted, labels=range(4), average="macro", zero_division=0)
    smoothed = np.array([3, 4, 2, 1]) / 10
    assert found["loss"] == pytest.approx(-np.log(smoothed[test]).mean())


def test_no_majority_baseline_of_language():
    task = EncodedTask("causal-lm", {"train": make_split("train", None, 3)}, (), 0, 8, (8,), (), {})
    assert majority_baseline(task, "train") == {}


def test_outcomes_round_trip_through_parquet(tmp_path):
    logits = np.array([[0.0, 2.0], [1.0, 0.5]])
    frame = outcomes_frame(make_split("eval", [1, 1]), 40, logits=logits)
    frame.to_parquet(tmp_path / "o.parquet")
    back = pd.read_parquet(tmp_path / "o.parquet")
    assert list(back.columns) == ["example_id", "split", "step", "label", "prediction", "logits"]
    assert back["example_id"].tolist() == ["eval:0", "eval:1"]
    assert back["prediction"].tolist() == [1, 0] and back["label"].tolist() == [1, 1]
    assert np.array_equal(np.stack(back["logits"]), logits) and back["logits"][0].dtype == np.float32
    assert back["split"].unique().tolist() == ["eval"] and back["step"].unique().tolist() == [40]


def test_outcomes_of_language():
    frame = outcomes_frame(make_split("eval", None, 2), 5, nll_sum=np.array([1.5, 2.0]), tokens=np.array([3, 4]))
    assert list(frame.columns) == ["example_id", "split", "step", "nll_sum", "tokens"]
    with pytest.raises(ValueError, match="causal-lm"):
        outcomes_frame(make_split("eval", None, 2), 5, nll_sum=np.array([1.5]), tokens=np.array([3]))

from __future__ import annotations

import numpy as np
import pytest
from tokenizers import normalizers

from lora_sweep.errors import DataError
from lora_sweep.tasks.classification import encode_classification, order_labels, read_classification
from lora_sweep.tasks.data import read_tables
from lora_sweep.tasks.splits import Examples


def read(config):
    return read_classification(read_tables(config), config.text, config.label)


def test_labels_are_ordered_by_number_or_by_text():
    assert order_labels(["10", "2", "-1", "2"]) == ("-1", "2", "10")
    assert order_labels(["10", "2", "x"]) == ("10", "2", "x")


def test_labels_of_any_file_read_as_text(write, classify):
    rows = [{"text": "u", "label": label} for label in (3, 3.0, " 3 ", "x", True)]
    parts, classes = read(classify(train=write("a.jsonl", rows)))
    assert parts["train"].labels == ["3", "3", "3", "x", "True"]
    assert classes == ("3", "True", "x")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            "text,label\nu,a\nv,\n",
            "{path}: row 2 (line 3), column label: must have a label, got ''. Fill it in, or remove the row.",
        ),
        (
            [{"text": "u", "label": 0.5}],
            "{path}: row 1 (line 1), column label: must be text or a whole number, got 0.5. "
            "Fill it in, or remove the row.",
        ),
        (
            "text,label\nu,a\nv,a\n",
            "{path}: column label: must hold at least 2 classes, got 'a'. "
            "Is it the label column? Set task.label to the right one.",
        ),
        (
            "text,label\nu,a\nv,b\n",
            "{path}: column label: must hold fewer classes than examples (every label is different), got 2. "
            "Is it the label column? Set task.label to the right one.",
        ),
        (
            "text,label\n" + "".join(f"u,{i}\nv,{i}\n" for i in range(1001)),
            "{path}: column label: must hold at most 1,000 classes, got 1001. "
            "Is it the label column? Set task.label to the right one.",
        ),
    ],
)
def test_bad_labels(write, classify, rows, message):
    path = write("a.csv" if isinstance(rows, str) else "a.jsonl", rows)
    with pytest.raises(DataError) as caught:
        read(classify(train=path))
    assert str(caught.value) == message.format(path=path)


def test_unseen_label(write, classify):
    train = write("train.csv", "text,label\nu,good\nv,bad\nw,bad\n")
    eval_path = write("eval.csv", "text,label\nu,good\n\nv,godo\n")
    with pytest.raises(DataError) as caught:
        read(classify(train=train, eval=eval_path))
    assert str(caught.value) == (
        f"{eval_path}: row 2 (line 4), column label: must be a label of the training data (bad, good), got 'godo'. "
        "Did you mean `good`? Correct it, or add training examples of it."
    )


def test_texts_are_encoded_and_cut_at_the_end(minilm):
    texts = ["a short one", "word " * 50]
    examples = Examples("/t.csv", ["t:1", "t:2"], texts, ["b", "a"])
    split, notes = encode_classification(examples, "train", minilm, 12, ("a", "b"))
    assert split.lengths.tolist() == [5, 12]
    assert split.token_ids[:5].tolist() == minilm(texts[0])["input_ids"]
    assert split.token_ids[5:].tolist() == minilm(texts[1], truncation=True, max_length=12)["input_ids"]
    assert split.token_ids[-1] == minilm.sep_token_id
    assert split.labels.tolist() == [1, 0] and split.labels.dtype == np.int64
    assert split.scored is None
    assert notes == ("1 of 2 train examples were cut at 12 tokens (task.max_length).",)


def test_the_tokenizer_is_left_as_it_was(minilm, monkeypatch):
    monkeypatch.setattr(minilm, "truncation_side", "left")
    examples = Examples("/t.csv", ["t:1"], ["first " + "word " * 50], ["a"])
    split, _ = encode_classification(examples, "train", minilm, 8, ("a",))
    assert split.token_ids[1] == minilm.convert_tokens_to_ids("first")
    assert minilm.truncation_side == "left"


def test_no_room_for_text(minilm):
    with pytest.raises(DataError) as caught:
        encode_classification(Examples("/t.csv", ["t:1"], ["u"], ["a"]), "train", minilm, 2, ("a",))
    assert str(caught.value) == "task.max_length: must be at least 3 with this tokenizer, got 2"


def test_text_without_tokens(plain_tokenizer):
    plain_tokenizer.backend_tokenizer.normalizer = normalizers.Strip()
    with pytest.raises(DataError) as caught:
        encode_classification(Examples("/t.csv", ["t:1"], [" "], ["a"]), "train", plain_tokenizer, 8, ("a",))
    assert str(caught.value) == "/t.csv: example t:1: must have at least one token, got ' '. Remove the row."

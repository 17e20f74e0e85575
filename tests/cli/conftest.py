"""One real sweep of the tiny BERT, and commands in its folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import yaml

from lora_sweep import cli
from lora_sweep.store import RunFolder
from reports import read_results


@pytest.fixture(scope="session")
def lora_sweep():
    """A command in a process of its own."""

    def run(*arguments, folder):
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "lora_sweep", *map(str, arguments)]
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)

    return run


@pytest.fixture(scope="session")
def swept(tmp_path_factory, bert_dir, sentiment_files, lora_sweep):
    """The folder with sweep.yaml and runs/one, and what the command printed."""
    folder = tmp_path_factory.mktemp("swept")
    raw = {
        "name": "tiny",
        "model": {"name": str(bert_dir), "dtype": "float32"},
        "task": {
            "type": "classification", "text": "text", "label": "label", "max_length": 32,
            "data": {part: str(file) for part, file in sentiment_files.items()},
        },
        "space": {
            "rank": [2, 4], "alpha": {"times_rank": 2}, "batch_size": 8, "learning_rate": {"log_uniform": [3e-3, 1e-2]},
            "target_modules": {"qv": "attention-qv", "odd [red]label[/": "all-linear"},
        },
        "search": {"algorithm": "random", "trials": 3, "seed": 3},
        "scheduler": {"type": "fifo"},
        "budget": {"steps": 12, "eval_every": 6},
        "finalists": {"seeds": 0},
    }  # fmt: skip
    (folder / "sweep.yaml").write_text(yaml.safe_dump(raw))
    return folder, lora_sweep("run", "sweep.yaml", "--name", "one", folder=folder)


@pytest.fixture
def run(swept):
    return RunFolder.open(swept[0] / "runs" / "one")


@pytest.fixture
def call(swept, monkeypatch, capsys):
    """A command in this process and the sweep's folder; returns stdout."""

    def run(*arguments):
        monkeypatch.chdir(swept[0])
        capsys.readouterr()  # what loading models in the test has printed
        monkeypatch.setattr(sys, "argv", ["lora-sweep", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        assert (ended.value.code, err) == (0, "")
        return out

    return run


@pytest.fixture
def read_json():
    """Strict JSON to Python."""

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    return lambda text: json.loads(text, parse_constant=refuse)


@pytest.fixture
def picked_of():
    """The cheapest of a run's complete trials that cannot be told from the best; equals by quality, then by id."""

    def best(run):
        tied = [record for record in run.records() if record.trial_id in read_results(run).tied]
        return min(tied, key=lambda r: (r.trainable_parameters, -r.metrics["accuracy"], r.trial_id))

    return best

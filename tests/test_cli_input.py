"""Bad input: exit code 2, one message on stderr (place, rule, value, fix), nothing on stdout, no half-made run."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from lora_sweep import cli
from lora_sweep.records import Cost, EvalPoint, TrialConfig, TrialRecord
from lora_sweep.store import RunFolder

PRESETS = "all-linear, attention, attention-mlp, attention-qv, quick, rank-grid"
NO_RUN = "must be a run folder (with a run.json inside). `lora-sweep run` makes one and prints its path."


@dataclass
class Place:
    """A folder with a sweep and its data; texts in `{}` in expected messages are its paths."""

    folder: Path
    raw: dict[str, Any]
    bert: Path

    def write(self, changes: dict[str, Any]) -> Path:
        raw = copy.deepcopy(self.raw)
        for path, value in changes.items():
            *outer, last = path.split(".")
            inner = raw
            for key in outer:
                inner = inner[key]
            inner[last] = value
        file = self.folder / "sweep.yaml"
        file.write_text(yaml.safe_dump(raw))
        return file


@pytest.fixture
def place(tmp_path, monkeypatch, sweep_raw, sentiment_files, bert_dir):
    for part, file in sentiment_files.items():
        shutil.copy(file, tmp_path / f"{part}.csv")
    raw = sweep_raw()
    raw["task"]["data"] = {part: f"{part}.csv" for part in sentiment_files}
    monkeypatch.chdir(tmp_path)
    return Place(tmp_path, raw, bert_dir)


@pytest.fixture
def call(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["lora-sweep", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return ended.value.code, out, err

    return run


def refused(result, message):
    code, out, err = result
    assert (code, out) == (2, "")
    assert err == f"error: {message}\n"


# A sweep that cannot run ---------------------------------------------------------------------------------------

MESSAGES = [
    (
        "an unknown key",
        {"modle": {}},
        "sweep.yaml: modle: is not a known key. Did you mean 'model'? Known keys: name, model, task, metric, space, "
        "search, scheduler, budget, training, resources, finalists.",
    ),
    (
        "an unknown preset",
        {"space": "atention"},
        "sweep.yaml: space: must be a preset, a YAML file, or the space itself, got 'atention'. "
        f"Did you mean 'attention'? Presets: {PRESETS}.",
    ),
    (
        "a missing data file",
        {"task.data.train": "gone.csv"},
        "sweep.yaml: task.data.train: file must exist, got '{folder}/gone.csv'. "
        "Paths are relative to the sweep's own file; with `hub:` these are names of splits.",
    ),
    (
        "a target that matches nothing",
        {"space.target_modules": {"mine": ["q_proj"]}},
        "sweep.yaml: space.target_modules: must match a linear layer of the model, got 'q_proj'. Its linear layers "
        "end in: dense, key, query, value; groups: attention-qv, attention, mlp, attention-mlp, all-linear.",
    ),
    (
        "the task head as a target",
        {"space.target_modules": {"mine": ["classifier"]}},
        "sweep.yaml: space.target_modules: must not be the task head, a module that the checkpoint lacks, "
        "or the output embeddings, got 'classifier'. "
        "The first two are trained in full beside every adapter.",
    ),
    ("rank 0", {"space.rank": 0}, "sweep.yaml: space.rank: must be a whole number of at least 1, got 0"),
    ("rank -1", {"space.rank": [4, -1]}, "sweep.yaml: space.rank[1]: must be a whole number of at least 1, got -1"),
    (
        "a rank above the layer",
        {"space.rank": [4, 33]},
        "sweep.yaml: space.rank: must be at most 32, the smaller side of bert.encoder.layer.0.attention.self.query, "
        "got 33. Lower the rank or leave that layer out.",
    ),
    ("alpha 0", {"space.alpha": 0}, "sweep.yaml: space.alpha: must be a number above 0, got 0"),
    (
        "dropout 1",
        {"space.dropout": 1.0},
        "sweep.yaml: space.dropout: must be a number of at least 0 and below 1, got 1.0",
    ),
    (
        "a rate in words",
        {"space.learning_rate": "fast"},
        "sweep.yaml: space.learning_rate: must be a number above 0, got 'fast'",
    ),
    (
        "a missing label column",
        {"task.label": "lable"},
        "{folder}/train.csv: column lable: must exist (columns found: text, label). "
        "Did you mean `label`? Set task.label to it.",
    ),
    (
        "an unknown hub id",
        {"model.name": "nobody/none"},
        "model nobody/none: must be one that can be loaded (We couldn't connect to 'https://huggingface.co' to load "
        "the files, and couldn't find them in the cached files). There is no such folder, and HF_HUB_OFFLINE is set: "
        "a hub model must be in the local cache.",
    ),
    (
        "a model that is not there",
        {"model.name": "./gone"},
        "sweep.yaml: model.name: file or folder must exist, got '{folder}/gone'",
    ),
    (
        "a grid over a continuous space",
        {"search.algorithm": "grid"},
        "sweep.yaml: space.learning_rate: must not be a continuous range for a grid, got {'log_uniform': [0.001, "
        "0.01]}. List what to try, e.g. [0.001, 0.0032, 0.01], or search with algorithm: random or tpe.",
    ),
]


@pytest.mark.parametrize(("changes", "message"), [m[1:] for m in MESSAGES], ids=[m[0] for m in MESSAGES])
def test_a_sweep_that_cannot_run(place, call, changes, message):
    file = place.write(changes)
    refused(call("run", file, "--output", "runs"), message.replace("{folder}", str(place.folder)))
    assert not (place.folder / "runs").exists()
    assert sorted(p.name for p in place.folder.iterdir()) == ["eval.csv", "sweep.yaml", "test.csv", "train.csv"]


def test_data_that_cannot_be_used(place, call):
    files = {
        "unseen": ("text,label\ngood,positive\nbad,negatve\n", "eval"),
        "one": ("text,label\n" + "good,positive\n" * 8, "train"),
        "latin": ("text,label\nna\xefve,positive\nbad,negative\n", "train"),
        "long": ("text,label\n" + ("good " * 80 + ",positive\nbad,negative\n") * 5, "train"),
    }
    messages = {
        "unseen": "row 2 (line 3), column label: must be a label of the training data (negative, positive), "
        "got 'negatve'. Did you mean `negative`? Correct it, or add training examples of it.",
        "one": "column label: must hold at least 2 classes, got 'positive'. Is it the label column? "
        "Set task.label to the right one.",
        "latin": "line 2: must be utf-8 text (byte offset 13), got b'\\xef'. "
        "Set task.data.encoding to the file's, often `encoding: latin-1` or `encoding: cp1252`.",
        "long": f"must be at most 64, the longest input of {place.bert}, got 70. Set it to 64: longer texts are cut.",
    }
    for name, (text, part) in files.items():
        data = place.folder / f"{name}.csv"
        data.write_bytes(text.encode("latin-1"))
        file = place.write({f"task.data.{part}": data.name} | ({"task.max_length": 70} if name == "long" else {}))
        where = "sweep.yaml: task.max_length" if name == "long" else str(data)
        refused(call("run", file, "--output", "runs"), f"{where}: {messages[name]}")
        assert not (place.folder / "runs").exists()


def model_faults(folder):
    (folder / "config.json").rename(folder / "kept")
    yield "model folder {model}: must hold a config.json or one .gguf file. Point model.name at a folder that " \
        "save_pretrained wrote, a .gguf file, or a hub id."  # fmt: skip
    (folder / "kept").rename(folder / "config.json")
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.unlink()
    yield "model folder {model}: must hold weights (*.safetensors or *.bin). " \
        "Copy the model's .safetensors files there."  # fmt: skip
    weights.write_bytes(whole[:1000])
    yield "model {model}: must be one that can be loaded (Error while deserializing header: invalid header length). " \
        "Are its files whole, and does this version of transformers know its architecture?"  # fmt: skip
    weights.write_bytes(whole)
    for file in folder.glob("tokenizer*"):
        file.unlink()
    yield "tokenizer of model {model}: must have a vocabulary. " \
        "Copy the tokenizer's files (tokenizer.json, vocab.txt, ...) into the model's folder."  # fmt: skip
    description = json.loads((folder / "config.json").read_text())
    auto = {"AutoConfig": "own.Config", "AutoModelForSequenceClassification": "own.Model"}
    (folder / "config.json").write_text(json.dumps(description | {"model_type": "own", "auto_map": auto}))
    yield "model {model}: must not need code of its own while model.trust_remote_code is false. " \
        "Read that code, and set model.trust_remote_code: true if you trust it."  # fmt: skip


def test_model_folders_that_cannot_be_used(place, call):
    folder = shutil.copytree(place.bert, place.folder / "model")
    file = place.write({"model.name": "model"})
    for message in model_faults(folder):
        refused(call("run", file, "--output", "runs"), message.replace("{model}", str(folder)))
        assert not (place.folder / "runs").exists()


def test_files_that_are_no_sweep(place, call):
    refused(call("run", "gone.yaml"), "gone.yaml: must be a readable file (No such file or directory)")
    (place.folder / "sweep.yaml").write_text("model: [\n")
    refused(
        call("run", "sweep.yaml"),
        "sweep.yaml: line 2, column 1: must be valid YAML (expected the node content, but found '<stream end>')",
    )
    assert not (place.folder / "runs").exists()


def test_settings(place, call):
    file = place.write({})
    refused(
        call("run", file, "--set", "budget.stesp=3"),
        "--set budget.stesp=3: is not a known key. Did you mean 'steps'? Known keys: steps, epochs, eval_every.",
    )
    refused(
        call("plan", file, "--set", "trials"), "--set trials: must be KEY=VALUE. For instance --set search.trials=32."
    )
    assert not (place.folder / "runs").exists()


def test_where_the_run_cannot_go(place, call):
    file = place.write({})
    there = place.folder / "runs" / "mine"
    there.mkdir(parents=True)
    (there / "notes.txt").write_text("keep me")
    refused(
        call("run", file, "--name", "mine"),
        "runs/mine: the run folder must not exist yet. "
        "Choose another --output or --name, go on with `lora-sweep resume`, or remove it.",
    )
    assert [p.name for p in there.iterdir()] == ["notes.txt"]
    assert (there / "notes.txt").read_text() == "keep me"
    refused(
        call("run", file, "--output", "train.csv", "--name", "mine"),
        "train.csv/mine: must be where a folder can be made (Not a directory). Choose another place.",
    )
    refused(
        call("demo", "--output", "runs/mine"),
        "runs/mine: the run folder must not exist yet. "
        "Choose another --output or --name, go on with `lora-sweep resume`, or remove it.",
    )


# Runs and adapters ---------------------------------------------------------------------------------------------


@pytest.fixture
def run(place):
    """A finished run of two trials, made by hand."""
    folder = RunFolder.create(place.folder / "run")
    metric = {"name": "accuracy", "mode": "max", "keep": "best"}
    folder.write_info({"status": "complete", "metric": metric, "data": {"parts": {"eval": {"examples": 80}}}})
    for number, parameters in enumerate((1000, 5000)):
        point = EvalPoint(step=8, metrics={"accuracy": 0.5 + number / 10, "loss": 0.6})
        folder.append_record(
            TrialRecord(
                trial_id=f"00{number}-abc", status="complete", config=TrialConfig(steps=8), metrics=point.metrics,
                step=8, history=(point,), trainable_parameters=parameters,
                cost=Cost(wall_seconds=1.0, device_seconds=1.0),
            )
        )  # fmt: skip
    return folder


@pytest.mark.parametrize("command", ["resume", "report", "pick"])
def test_what_is_no_run(place, call, command):
    (place.folder / "folder").mkdir()
    for name in ("folder", "gone", "train.csv"):
        refused(call(command, name), f"{name}: {NO_RUN}")
    assert not list((place.folder / "folder").iterdir())


def test_picks_that_cannot_be(place, call, run):
    refused(
        call("pick", "run", "--max-parameters", 999),
        "--max-parameters: must leave at least one candidate, got 999. The nearest is 000-abc with 1,000 parameters.",
    )
    refused(
        call("pick", "run", "--trial", "000-abd"),
        "--trial: must be a trial of run, or a cut of one, got '000-abd'. Close to it: 000-abc, 001-abc.",
    )
    refused(
        call("pick", "run", "--trial", "001-abc", "--max-parameters", 1000),
        "--max-parameters: must have room for 001-abc with 5,000 parameters, got 1000. Leave out one of the two.",
    )
    for option, value, message in (
        ("--max-parameters", "few", "must be a number of at least 1, such as 300k or 4M, got 'few'"),
        ("--max-bytes", "0", "must be a number of at least 1, such as 300k or 4M, got '0'"),
        ("--max-latency", "3", "must leave at least one candidate, got 3.0. No candidate has a measured latency."),
        ("--max-latency", "-3", "must be above 0, got -3.0"),
        ("--min-quality", "80", "must be between 0 and 1, got 80.0. Accuracy is a share: write 0.7 or 70%."),
        ("--min-quality", "99%", "must leave at least one candidate, got 0.99. The nearest is 001-abc with 60.0 %"),
        ("--cost", "weight", "must be of parameters, bytes, latency, memory, train-time, got 'weight'"),
        ("--cost", "bytes,latency", "must have weights above 0, got 'bytes,latency'."),
        ("--parsimony", "strict", "must be tie-set or one-standard-error, got 'strict'"),
    ):
        code, out, err = call("pick", "run", option, value)
        assert (code, out) == (2, "") and err.startswith(f"error: {option}: {message}"), err
    refused(call("pick", "run", "--merge"), "--merge: must go with --export. Add --export DIR.")
    refused(call("pick", "run", "--no-check"), "--no-check: must go with --export. Add --export DIR.")
    refused(
        call("pick", "run", "--export", "out"),
        "run/adapters/001-abc: must hold the trial's adapter; it is not there. Pick another trial.",
    )
    (run.adapter_dir("001-abc")).mkdir()
    (place.folder / "there").mkdir()
    refused(
        call("pick", "run", "--export", "there"),
        "there: the export folder must not exist yet. Choose another, or remove it.",
    )
    assert not (place.folder / "out").exists()
    assert not list((place.folder / "there").iterdir())


def test_a_pick_of_a_run_whose_trials_all_failed(place, call):
    folder = RunFolder.create(place.folder / "run")
    folder.write_info({"status": "complete", "metric": {"name": "accuracy", "mode": "max", "keep": "best"}})
    folder.append_record(TrialRecord(trial_id="a", status="failed", config=TrialConfig(), error="boom"))
    refused(
        call("pick", "run"),
        "run: must hold a trial with an evaluation of accuracy, got '1 trial, 1 failed'. "
        "The report lists the reasons of failed trials.",
    )


def test_what_is_no_adapter(place, call):
    (place.folder / "folder").mkdir()
    for name in ("folder", "gone"):
        code, out, err = call("inspect", name)
        assert (code, out) == (2, "")
        assert err.startswith(f"error: {name}: must be an adapter folder, with adapter_config.json inside")
        assert err.count("\n") == 1


def test_a_report_into_a_folder(place, call, run):
    (place.folder / "folder").mkdir()
    code, out, err = call("report", "run", "--output", "folder")
    assert (code, out) == (2, "")
    last = err.splitlines()[-1]
    assert last.startswith("Error: Invalid value for '--output': ") and last.endswith("'folder' is a directory.")
    assert not (place.folder / "folder.part").exists()


def test_a_wrong_usage_is_told_in_plain_text(call):
    assert call("rnu") == (
        2,
        "",
        "Usage: lora-sweep [OPTIONS] COMMAND [ARGS]...\nTry 'lora-sweep --help' for help.\n\n"
        "Error: No such command 'rnu'. Did you mean 'run'?\n",
    )


def test_what_the_file_system_refuses(place, call, run):
    code, out, err = call("report", "run", "--output", "train.csv/x.html")
    assert (code, out) == (1, "")
    assert err == "error: train.csv: File exists\n"


# As a user calls it --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space.rank": 0}, "sweep.yaml: space.rank: must be a whole number of at least 1, got 0"),
        (
            {"model.name": "nobody/none"},
            "model nobody/none: must be one that can be loaded (We couldn't connect to 'https://huggingface.co' to "
            "load the files, and couldn't find them in the cached files). There is no such folder, and HF_HUB_OFFLINE "
            "is set: a hub model must be in the local cache.",
        ),
        (
            {"space.rank": [4, 33]},
            "sweep.yaml: space.rank: must be at most 32, the smaller side of "
            "bert.encoder.layer.0.attention.self.query, got 33. Lower the rank or leave that layer out.",
        ),
    ],
)
def test_nothing_else_is_printed(place, changes, message):
    place.write(changes)
    command = [sys.executable, "-c", "from lora_sweep.cli import main; main()", "run", "sweep.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {message}\n")
    assert not (place.folder / "runs").exists()


@pytest.mark.parametrize(
    ("changes", "arguments", "start"),
    [
        ({}, ["--address", "127.0.0.1:1"], "--address: must be the address of a running Ray cluster ("),
        ({"resources": {"engines": 1000}}, [], "resources.engines: must be at most the number of "),
    ],
)
def test_a_cluster_that_cannot_take_the_sweep(place, changes, arguments, start):
    place.write(changes)
    command = [sys.executable, "-c", "from lora_sweep.cli import main; main()", "run", "sweep.yaml", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {start}") and done.stderr.count("\n") == 1
    assert not (place.folder / "runs").exists()

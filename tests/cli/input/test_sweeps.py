"""Sweeps, data and models that cannot be used."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

PRESETS = "all-linear, attention, attention-mlp, attention-qv, quick, rank-grid"


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
def test_a_sweep_that_cannot_run(place, call, changes, message, refused):
    file = place.write(changes)
    refused(call("run", file, "--output", "runs"), message.replace("{folder}", str(place.folder)))
    assert not (place.folder / "runs").exists()
    assert sorted(p.name for p in place.folder.iterdir()) == ["eval.csv", "sweep.yaml", "test.csv", "train.csv"]


def test_data_that_cannot_be_used(place, call, refused):
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


def test_model_folders_that_cannot_be_used(place, call, refused):
    folder = shutil.copytree(place.bert, place.folder / "model")
    file = place.write({"model.name": "model"})
    for message in model_faults(folder):
        refused(call("run", file, "--output", "runs"), message.replace("{model}", str(folder)))
        assert not (place.folder / "runs").exists()


def test_files_that_are_no_sweep(place, call, refused):
    refused(call("run", "gone.yaml"), "gone.yaml: must be a readable file (No such file or directory)")
    (place.folder / "sweep.yaml").write_text("model: [\n")
    refused(
        call("run", "sweep.yaml"),
        "sweep.yaml: line 2, column 1: must be valid YAML (expected the node content, but found '<stream end>')",
    )
    assert not (place.folder / "runs").exists()


def test_settings(place, call, refused):
    file = place.write({})
    refused(
        call("run", file, "--set", "budget.stesp=3"),
        "--set budget.stesp=3: is not a known key. Did you mean 'steps'? Known keys: steps, epochs, eval_every.",
    )
    refused(
        call("plan", file, "--set", "trials"), "--set trials: must be KEY=VALUE. For instance --set search.trials=32."
    )
    assert not (place.folder / "runs").exists()


def test_where_the_run_cannot_go(place, call, refused):
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
        pytest.param(
            {"space.rank": [4, 33]},
            "sweep.yaml: space.rank: must be at most 32, the smaller side of "
            "bert.encoder.layer.0.attention.self.query, got 33. Lower the rank or leave that layer out.",
            marks=pytest.mark.slow,  # Ray starts and ends
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
        pytest.param(
            {"resources": {"engines": 1000}},
            [],
            "resources.engines: must be at most the number of ",
            marks=pytest.mark.slow,  # Ray starts and ends
        ),
    ],
)
def test_a_cluster_that_cannot_take_the_sweep(place, changes, arguments, start):
    place.write(changes)
    command = [sys.executable, "-c", "from lora_sweep.cli import main; main()", "run", "sweep.yaml", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {start}") and done.stderr.count("\n") == 1
    assert not (place.folder / "runs").exists()

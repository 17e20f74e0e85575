"""train.py: the same examples, the same training, and a run from the shell without lora_sweep."""

from __future__ import annotations

import csv
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from lora_sweep.adapters import AdaptedModel, read_adapter
from lora_sweep.export import export_trial
from lora_sweep.export.check import encoded_task
from lora_sweep.export.subject import read_subject
from lora_sweep.models import load_base

SHORT = {"steps": 6, "eval_every": 3}


@pytest.fixture
def script_of(make_run, tmp_path):
    """The exported script's names, the run, and the script's path."""

    def make(trial=None, until=None, **changes):
        run = make_run(trial, until, **changes)
        exported = export_trial(run, "000-t", tmp_path / "out", merge=False)
        assert not exported.warnings and not exported.errors
        file = tmp_path / "out" / "train.py"
        return runpy.run_path(str(file)), run, file

    return make


def assert_same_examples(script, run):
    """The script's parts hold the tokens and targets that the sweep's do."""
    task = encoded_task(read_subject(run, "000-t"))
    parts = {name: script["encode"](rows) for name, rows in script["read_parts"]().items()}
    assert parts.keys() == task.splits.keys()
    for name, split in task.splits.items():
        assert len(parts[name]) == len(split)
        for index, (tokens, target) in enumerate(parts[name]):
            place = slice(split.offsets[index], split.offsets[index + 1])
            assert tokens == split.token_ids[place].tolist()
            expected = split.scored[place].tolist() if split.scored is not None else split.labels[index]
            assert target == expected


def write_rows(folder, suffix, rows):
    files = {}
    for part, amount in {"train": 24, "eval": 8, "test": 8}.items():
        files[part] = folder / f"{part}.{suffix}"
        if suffix == "jsonl":
            files[part].write_text("\n\n".join(json.dumps(row) for row in rows[:amount]) + "\n", encoding="utf-8")
        elif suffix == "parquet":
            import pandas as pd

            pd.DataFrame(rows[:amount]).to_parquet(files[part])
        else:
            with files[part].open("w", newline="", encoding="utf-8-sig") as stream:
                writer = csv.DictWriter(stream, rows[0].keys(), delimiter="\t")
                writer.writeheader()
                writer.writerows(rows[:amount])
    return {part: str(file) for part, file in files.items()}


SENTENCES = [{"text": "good bad\nfine " * (1 + row % 5), "label": row % 3} for row in range(24)]


@pytest.mark.parametrize("suffix", ["tsv", "jsonl", "parquet"])
def test_files_are_read_as_in_the_sweep(script_of, tmp_path, suffix):
    rows = [row | {"label": float(row["label"])} if suffix == "parquet" else row for row in SENTENCES]
    task = {"type": "classification", "data": write_rows(tmp_path, suffix, rows), "text": "text", "label": "label"}
    script, run, _ = script_of(SHORT, task=task | {"max_length": 12})
    assert_same_examples(script, run)


def test_a_hub_data_set_is_read_as_in_the_sweep(script_of, tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    files = write_rows(tmp_path, "jsonl", SENTENCES)
    folder = tmp_path / "hub"
    folder.mkdir()
    for part, name in {"train": "train", "eval": "validation", "test": "test"}.items():
        Path(files[part]).rename(folder / f"{name}.jsonl")
    data = {"hub": str(folder), "train": "train", "eval": "validation", "test": "test"}
    task = {"type": "classification", "data": data, "text": "text", "label": "label", "max_length": 12}
    script, run, _ = script_of(SHORT, task=task)
    assert_same_examples(script, run)


CHAT = [
    {"messages": [
        *([{"role": "system", "content": "very fine"}] if row % 2 else []),
        {"role": "user", "content": f"{'the movie ' * (row % 4)}was"}, {"role": "assistant", "content": "good  "},
        {"role": "user", "content": "but"}, {"role": "assistant", "content": "not so great"},
    ]} for row in range(24)
]  # fmt: skip
TEXTS = [{"text": "the plot was " * (1 + row % 4) + "good"} for row in range(24)]


@pytest.mark.parametrize(
    ("family", "rows", "columns"),
    [
        ("llama", None, {}),  # prompts and responses through the chat template
        ("gpt2", None, {}),  # and without one
        ("llama", CHAT, {"messages": "messages"}),
        ("llama", TEXTS, {"text": "text"}),
    ],
    ids=["chat", "no template", "messages", "text"],
)
def test_texts_are_written_and_scored_as_in_the_sweep(script_of, causal, request, tmp_path, family, rows, columns):
    changes = causal(request.getfixturevalue(f"{family}_dir"))
    if rows is not None:
        changes["task"] |= {"prompt": None, "response": None, **columns, "data": write_rows(tmp_path, "jsonl", rows)}
    script, run, _ = script_of(SHORT, **changes)
    assert_same_examples(script, run)


def start_like_the_trial(model, run):
    """Give the script's model the start that the engine gives the trial."""
    subject = read_subject(run, "000-t")
    base = load_base(subject.model_config, subject.task["type"], subject.labels)
    adapted = AdaptedModel(base.model, base.trained, base.new, base.called)
    weights = adapted.add(0, subject.record.config, subject.record.config.seed)
    heads = {name: part for name, part in model.named_parameters() if part.requires_grad}
    assert len(heads) == len(weights.named)
    for name, parameter in heads.items():
        ours = name.removeprefix("base_model.model.").replace(".default", "").replace(".modules_to_save", "")
        parameter.data.copy_(weights.named[ours])


@pytest.mark.parametrize(
    ("family", "trial"),
    [
        ("bert", {"accumulate": 2, "schedule": "cosine", "weight_decay": 0.1, "clip": 0.2}),
        ("bert", {"optimizer": "sgd", "learning_rate": 0.3, "clip": None, "schedule": "constant"}),
        ("llama", {"target_modules": "all-linear", "batch_size": 48}),
        # not the key: attention does not depend on its bias, whose gradient is rounding alone
        ("bert", {"target_modules": ("query", "value", "output.dense"), "bias": "lora_only"}),
    ],
    ids=["accumulated", "sgd", "causal-lm", "biases"],
)
def test_the_same_start_gives_the_same_adapter(script_of, causal, llama_dir, tmp_path, family, trial):
    changes = {} if family == "bert" else causal(llama_dir)
    script, run, _ = script_of({"steps": 12, "eval_every": 5} | trial, **changes)
    parts = {name: script["encode"](rows) for name, rows in script["read_parts"]().items()}
    model = script["build"]()
    start_like_the_trial(model, run)
    script["train"](model, parts["train"], parts["eval"])
    model.save_pretrained(tmp_path / "again")
    found, expected = read_adapter(tmp_path / "again"), read_adapter(run.adapter_dir("000-t"))
    assert found.tensors.keys() == expected.tensors.keys()
    for name, tensor in expected.tensors.items():
        torch.testing.assert_close(found.tensors[name], tensor, rtol=1e-3, atol=2e-4)
    recorded = run.analysis("finalists")["rows"][0]["metrics"]["test"]
    for name, value in script["evaluate"](model, parts["test"]).items():
        assert value == pytest.approx(recorded[name], rel=1e-3, abs=1e-4)


def test_biases_are_trained_in_float32_on_a_base_that_is_not(script_of, bert_dir):
    model = {"name": str(bert_dir), "dtype": "bfloat16"}
    script, _, _ = script_of(SHORT | {"bias": "lora_only"}, model=model)
    assert script["LORA"]["bias"] == "lora_only"
    parts = {name: script["encode"](rows) for name, rows in script["read_parts"]().items()}
    trained = script["build"]()
    biases = {name: p for name, p in trained.named_parameters() if name.endswith("base_layer.bias")}
    start = {name: bias.detach().clone() for name, bias in biases.items()}
    assert biases and all(bias.dtype is torch.float32 and bias.requires_grad for bias in biases.values())
    weights = [p for name, p in trained.named_parameters() if name.endswith("base_layer.weight")]
    assert all(weight.dtype is torch.bfloat16 for weight in weights)
    script["train"](trained, parts["train"], parts["eval"])
    assert all(not torch.equal(bias, start[name]) for name, bias in biases.items())


def test_dropout_is_on_where_it_was(script_of):
    script, _, _ = script_of(SHORT | {"dropout": 0.5}, training={"base_dropout": True})
    model = script["build"]()
    script["set_dropout"](model, True)
    active = {name for name, part in model.named_modules() if isinstance(part, torch.nn.Dropout) and part.training}
    assert any(".lora_dropout." in name for name in active)
    assert any(name.endswith("output.dropout") for name in active)
    script["set_dropout"](model, False)
    assert not any(part.training for part in model.modules())


def run_script(file, *arguments):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    code = (
        "import runpy, sys; sys.modules['lora_sweep'] = sys.modules['reports'] = None; "
        f"sys.argv = {[str(file), *map(str, arguments)]!r}; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_script_runs_on_the_examples_that_were_set_aside(script_of, sentiment_files, tmp_path):
    """Eval and test were taken out of the training file; the trial was stopped early."""
    data = {"train": str(sentiment_files["train"])}
    task = {"type": "classification", "data": data, "text": "text", "label": "label", "max_length": 32}
    script, run, file = script_of({"steps": 30, "eval_every": 5}, until=10, task=task)
    assert_same_examples(script, run)
    splits = json.loads((file.parent / "splits.json").read_text())
    assert {name: (part["of"], len(part["rows"])) for name, part in splits.items()} == {
        "eval": ("train", 24), "test": ("train", 24), "holdout": ("train", 10)
    }  # fmt: skip
    out = run_script(file, tmp_path / "again")
    assert "examples: train 182, eval 24, test 24, holdout 10\n" in out
    assert not re.search("^holdout", out, re.M)
    assert re.findall(r"^step (\d+): eval accuracy", out, re.M) == ["5", "10"]
    assert re.search(r"^test: accuracy 0\.\d{4}, macro_f1 0\.\d{4}, loss \d\.\d{4}$", out, re.M)
    assert re.search(r"^the card: accuracy .* (in|out)side$", out, re.M)
    assert read_adapter(tmp_path / "again").tensors.keys() == read_adapter(run.adapter_dir("000-t")).tensors.keys()


def test_without_a_check_the_hold_out_is_left_out_too(make_run, tmp_path):
    run = make_run(SHORT)
    exported = export_trial(run, "000-t", tmp_path / "out", merge=False, check=False)
    assert not exported.warnings
    assert_same_examples(runpy.run_path(str(tmp_path / "out" / "train.py")), run)


def test_half_of_eval_is_the_test_part(script_of, sentiment_files):
    data = {part: str(sentiment_files[part]) for part in ("train", "eval")}
    task = {"type": "classification", "data": data, "text": "text", "label": "label", "max_length": 32}
    script, run, file = script_of(SHORT, task=task)
    assert_same_examples(script, run)
    splits = json.loads((file.parent / "splits.json").read_text())
    assert {name: part["of"] for name, part in splits.items()} == {"test": "eval", "holdout": "train"}


def test_a_run_older_than_hold_outs(make_run, sentiment_files, tmp_path):
    """Its sweep.yaml has no such key, and its trials trained on everything."""
    files = {part: str(file) for part, file in sentiment_files.items()} | {"holdout": 0}
    task = {"type": "classification", "data": files, "text": "text", "label": "label", "max_length": 32}
    run = make_run(SHORT, task=task)
    sweep = yaml.safe_load(run.sweep_file.read_text())
    del sweep["task"]["data"]["holdout"]
    run.sweep_file.write_text(yaml.safe_dump(sweep))
    exported = export_trial(run, "000-t", tmp_path / "out", merge=False)
    assert not exported.warnings and not (tmp_path / "out" / "splits.json").exists()
    assert "holdout" not in encoded_task(read_subject(run, "000-t")).splits
    assert_same_examples(runpy.run_path(str(tmp_path / "out" / "train.py")), run)


def test_data_that_cannot_be_read_leave_no_script(make_run, sentiment_files, tmp_path):
    files = {part: str(shutil.copy(file, tmp_path / f"{part}.csv")) for part, file in sentiment_files.items()}
    task = {"type": "classification", "data": files, "text": "text", "label": "label", "max_length": 32}
    run = make_run(SHORT, task=task)
    (tmp_path / "train.csv").write_text("text,label\ngood,positive\nbad,negative\n" * 10)
    exported = export_trial(run, "000-t", tmp_path / "out", merge=False, check=False)
    assert [warning.split(":")[0] for warning in exported.warnings] == ["There is no train.py"]
    assert not (tmp_path / "out" / "train.py").exists()


@pytest.mark.slow
def test_the_script_runs_for_a_language_model(script_of, causal, llama_dir):
    _, _, file = script_of(SHORT, **causal(llama_dir))
    out = run_script(file)
    assert re.search(r"^test: loss \d\.\d{4}, perplexity \d+\.\d{4}$", out, re.M)
    assert (file.parent / "retrained" / "adapter_model.safetensors").is_file()


def test_the_script_refuses_other_data(script_of, sentiment_files, tmp_path):
    data = {part: str(tmp_path / f"{part}.csv") for part in sentiment_files}
    for part, file in sentiment_files.items():
        (tmp_path / f"{part}.csv").write_bytes(file.read_bytes())
    task = {"type": "classification", "data": data, "text": "text", "label": "label", "max_length": 32}
    script, _, _ = script_of(SHORT, task=task)
    (tmp_path / "eval.csv").write_text("text,label\ngood,positive\n")
    with pytest.raises(SystemExit, match="is not the file that the trial saw"):
        script["read_parts"]()


def test_the_script_of_a_cut_cuts(script_of, tmp_path):
    from lora_sweep.analysis.rank_curve import measure_rank_curves
    from lora_sweep.analysis.session import open_session

    _, run, _ = script_of()
    measure_rank_curves(open_session(run, "cpu", slots=2, holdout_examples=16), run.records(), shares=(0.5,))
    names = [cut["name"] for cut in run.analysis("rank_curves")["trials"][0]["cuts"]]
    for name in (one for one in names if one in ("000-t@rank2", "000-t@energy50")):
        folder = tmp_path / name
        exported = export_trial(run, name, folder, merge=False)
        script = runpy.run_path(str(folder / "train.py"))
        assert script["LORA"]["r"] == 4
        model = script["build"]()
        trained = read_adapter(run.adapter_dir("000-t")).tensors
        for key, parameter in model.named_parameters():
            if parameter.requires_grad:
                ours = key.removeprefix("base_model.model.").replace(".default", "").replace(".modules_to_save", "")
                parameter.data.copy_(trained[ours])
        script["cut"](model)
        test = script["encode"](script["read_parts"]()["test"])
        found = script["evaluate"](model, test)
        for metric, value in exported.row["metrics"]["test"].items():
            assert found[metric] == pytest.approx(value, rel=1e-4, abs=1e-5)
        assert np.isfinite(list(found.values())).all()

"""Every command on one real sweep of the tiny BERT, and the run folder's contract."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from lora_sweep import cli
from lora_sweep.store import RunFolder
from reports import read_results

MAIN = [sys.executable, "-c", "from lora_sweep.cli import main; main()"]
HEAVY = ("torch", "ray", "transformers", "pandas", "plotly")


def lora_sweep(*arguments, folder):
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [*MAIN, *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def swept(tmp_path_factory, bert_dir, sentiment_files):
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


def read_json(text):
    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


# The sweep and its folder --------------------------------------------------------------------------------------


def test_run_prints_results_and_no_progress(swept, run):
    done = swept[1]
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0].split()[:7] == ["#", "trial", "eval", "95", "%", "tie", "test"]
    assert all(record.trial_id in done.stdout for record in run.records())
    assert "odd [red]label[/" in done.stdout
    assert "report: runs/one/report.html" in lines
    assert sum(line.startswith("pick: Trial ") for line in lines) == 1 and lines[-2].startswith("- ")
    assert lines[-1].startswith("export it: lora-sweep pick runs/one --trial 00") and lines[-1].endswith("--export DIR")


def test_the_run_folder_is_as_documented(swept, run, sentiment_files, bert_dir):
    records = run.records()
    ids = {record.trial_id for record in records}
    assert len(ids) == 3
    assert {path.name for path in run.path.iterdir()} == {
        "sweep.yaml", "run.json", "trials.jsonl", "adapters", "outcomes", "analysis", "tables", "report.html", "tune"
    }  # fmt: skip
    assert {path.name for path in (run.path / "tables").iterdir()} == {
        "trials.csv", "curves.csv", "pareto.csv", "baselines.csv"
    }  # fmt: skip
    assert {path.name for path in (run.path / "analysis").iterdir()} == {"baselines.json", "finalists.json"}
    for trial_id in ids:
        names = {path.name for path in run.adapter_dir(trial_id).iterdir()}
        assert names == {"adapter_config.json", "adapter_model.safetensors"}
    assert ids <= {path.stem for path in (run.path / "outcomes").glob("*.parquet")}
    assert not list(run.path.rglob("*.part"))


def test_run_json(swept, run, sentiment_files, bert_dir):
    info = run.info()
    assert {"versions", "commit", "devices", "seed", "started", "ended", "status", "model", "data", "task"} <= set(info)
    assert (info["status"], info["error"], info["name"]) == ("complete", None, "tiny")
    assert info["trials"] == {"planned": 3, "complete": 3, "stopped": 0, "failed": 0}
    assert info["command"] == "lora-sweep run sweep.yaml --name one"
    assert info["model"]["path"] == str(bert_dir) and len(info["model"]["sha256"]) == 64
    for part, file in sentiment_files.items():
        assert info["data"]["parts"][part]["path"] == str(file)
        assert len(info["data"]["parts"][part]["sha256"]) == 64


def test_trial_records(run):
    for line in (run.path / "trials.jsonl").read_text().splitlines():
        record = read_json(line)
        assert {
            "trial_id", "status", "config", "metrics", "step", "history", "trainable_parameters", "adapter_bytes",
            "tokens", "cost", "error",
        } <= set(record)  # fmt: skip
        assert {
            "rank", "alpha", "dropout", "target_modules", "learning_rate", "batch_size", "seed"
        } <= set(record["config"])  # fmt: skip
        assert record["status"] == "complete" and record["error"] is None
        assert {"accuracy", "macro_f1", "loss"} <= set(record["metrics"])
        assert [point["step"] for point in record["history"]] == [6, 12]
        kept = next(point for point in record["history"] if point["step"] == record["step"])
        assert kept["metrics"] == record["metrics"]
        size = (run.adapter_dir(record["trial_id"]) / "adapter_model.safetensors").stat().st_size
        assert record["adapter_bytes"] == size > 4 * record["trainable_parameters"]
        assert record["cost"]["wall_seconds"] > 0 and record["cost"]["device_seconds"] > 0


def test_outcomes_are_of_the_kept_step_and_give_the_metrics(run):
    for record in run.records():
        outcomes = run.outcomes(record.trial_id)
        assert {"example_id", "split", "step", "label", "prediction", "logits"} <= set(outcomes.columns)
        part = outcomes[outcomes["split"] == "eval"]
        assert len(part) == 80 and part["example_id"].is_unique
        assert set(part["step"]) == {record.step}
        assert float((part["prediction"] == part["label"]).mean()) == pytest.approx(record.metrics["accuracy"])
        assert (np.stack(part["logits"]).argmax(1) == part["prediction"]).all()


# Reading commands ----------------------------------------------------------------------------------------------


def test_report(call, run, tmp_path):
    (run.path / "report.html").unlink()
    assert call("report", "runs/one") == "runs/one/report.html\n"
    page = (run.path / "report.html").read_text()
    assert "odd [red]label[/" in page
    other = tmp_path / "deep" / "page.html"
    assert call("report", "runs/one", "--output", other) == f"{other}\n"
    assert other.read_text().startswith("<!")


def picked_of(run):
    """The cheapest of the complete trials that cannot be told from the best; equals by quality, then by id."""
    tied = [record for record in run.records() if record.trial_id in read_results(run).tied]
    return min(tied, key=lambda r: (r.trainable_parameters, -r.metrics["accuracy"], r.trial_id))


def test_pick(call, run):
    best = picked_of(run)
    text = call("pick", "runs/one")
    assert text.startswith(f"Trial {best.trial_id} ") and "the best" in text
    assert all(line.startswith("- ") for line in text.splitlines()[1:])
    picked = read_json(call("pick", "runs/one", "--json"))
    assert picked["trial_id"] == best.trial_id
    assert [picked["why"][0], *(f"- {one}" for one in picked["why"][1:])] == text.splitlines()
    assert picked["export"] is None
    assert picked["chosen"]["trainable_parameters"] == best.trainable_parameters
    assert picked["chosen"]["quality"] == best.metrics["accuracy"]
    assert picked["chosen"]["error"] is None


def test_pick_within_a_limit(call, run):
    smallest = min(record.trainable_parameters for record in run.records())
    picked = read_json(call("pick", "runs/one", "--max-parameters", smallest, "--json"))
    assert picked["chosen"]["trainable_parameters"] == smallest
    assert picked["limits"]["max_parameters"] == smallest and picked["candidates"]["all"] == 3


def test_pick_by_a_weighted_cost(call, run):
    picked = read_json(call("pick", "runs/one", "--cost", "train-time=0.5,memory=0.5", "--json"))
    tied = [record for record in run.records() if record.trial_id in picked["tie_set"]["members"]]
    largest = max(r.cost.device_seconds for r in tied), max(r.cost.state_bytes for r in tied)
    costs = {r.trial_id: 0.5 * r.cost.device_seconds / largest[0] + 0.5 * r.cost.state_bytes / largest[1] for r in tied}
    assert picked["cost"]["values"] == pytest.approx(costs)
    assert picked["trial_id"] == min(costs, key=costs.get)


def test_plan_agrees_with_what_was_trained(call, run):
    rows = read_json(call("plan", "sweep.yaml", "--json"))
    planned = {(row["targets"], row["rank"]): row["trainable_parameters"] for row in rows}
    assert len(rows) == 4
    for record in run.records():
        targets = record.config.target_modules
        assert planned[targets, record.config.rank] == record.trainable_parameters
    text = call("plan", "sweep.yaml")
    assert ": 21,410 parameters; 3 trials (random)\nspace: infinitely many configurations, 4 sizes\n" in text
    again = call("plan", "sweep.yaml", "--set", "finalists.seeds=1")
    assert "\nfinalists: 3, each trained again with 1 new seed\n" in again
    header = text.splitlines()[2]
    assert header.split()[:5] == ["targets", "rank", "layers", "trainable", "share"]
    assert header.rstrip().endswith("adapter (fp32)  adapter (bf16)")


def test_spaces(call):
    listed = read_json(call("spaces", "--json"))
    assert set(listed) == {"all-linear", "attention", "attention-mlp", "attention-qv", "quick", "rank-grid"}
    assert all(space["description"] and space["space"] for space in listed.values())
    text = call("spaces")
    assert all(f"{name}: {space['description']}" in text for name, space in listed.items())
    assert "target groups" in text and "all-linear: every linear layer but" in text


def test_inspect(call, run):
    record = max(run.records(), key=lambda r: r.trainable_parameters)
    folder = Path("runs/one/adapters") / record.trial_id
    found = read_json(call("inspect", folder, "--json"))
    assert found["spec"]["rank"] == record.config.rank
    assert {layer["rank"] for layer in found["layers"]} == {record.config.rank}
    assert {layer["name"] for layer in found["layers"]} == set(found["spec"]["target_modules"])
    for layer in found["layers"]:
        assert len(layer["singular_values"]) == layer["rank"]
        assert layer["norm_update"] == pytest.approx(np.linalg.norm(layer["singular_values"]))
    text = call("inspect", folder)
    assert f"rank {record.config.rank}, alpha {record.config.alpha:g}; {record.trainable_parameters:,} para" in text
    assert "trained in full: bert.pooler.dense, classifier" in text
    assert all(layer["name"] in text for layer in found["layers"])


def test_inspect_of_an_adapter_without_lora(call):
    assert read_json(call("inspect", "runs/one/adapters/head-only-1", "--json"))["layers"] == []
    assert "1,122 parameters" in call("inspect", "runs/one/adapters/head-only-1")


# Exports -------------------------------------------------------------------------------------------------------


def answers(model, run):
    """Logits on the evaluation examples, one at a time: no padding."""
    from transformers import AutoTokenizer

    info = run.info()
    tokenizer = AutoTokenizer.from_pretrained(info["model"]["path"])
    texts = pd.read_csv(info["data"]["parts"]["eval"]["path"], keep_default_na=False)["text"]
    model.eval()
    with torch.no_grad():
        rows = [model(**tokenizer(text, truncation=True, max_length=32, return_tensors="pt")).logits for text in texts]
    return torch.cat(rows).numpy()


def recorded(run, trial_id):
    outcomes = run.outcomes(trial_id)
    part = outcomes[outcomes["split"] == "eval"].set_index("example_id")
    return np.stack([part.loc[f"eval:{row}", "logits"] for row in range(1, len(part) + 1)])


def load_with_peft(run, folder):
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        base = AutoModelForSequenceClassification.from_pretrained(run.info()["model"]["path"], num_labels=2)
        return PeftModel.from_pretrained(base, folder)


def test_an_exported_adapter_answers_in_peft_as_it_did_in_the_sweep(call, run, tmp_path):
    for record in run.records():
        folder = tmp_path / record.trial_id
        out = call("pick", "runs/one", "--trial", record.trial_id, "--export", folder)
        assert out.endswith(f"adapter: {folder}\n")
        assert "\nthrough PEFT " in out and "; in the run " in out
        found = answers(load_with_peft(run, folder), run)
        np.testing.assert_allclose(found, recorded(run, record.trial_id), rtol=0, atol=1e-4)


def test_a_merged_export_needs_transformers_alone(call, run, tmp_path):
    from transformers import AutoModelForSequenceClassification

    best = picked_of(run)
    first, second = tmp_path / "first", tmp_path / "second"
    out = call("pick", "runs/one", "--export", first, "--merge")
    assert out.endswith(f"adapter: {first}\nmerged model: {first}/merged\n")
    merged = AutoModelForSequenceClassification.from_pretrained(first / "merged")
    np.testing.assert_allclose(answers(merged, run), recorded(run, best.trial_id), rtol=0, atol=1e-4)
    assert merged.config.id2label == {0: "negative", 1: "positive"}

    picked = read_json(call("pick", "runs/one", "--trial", best.trial_id, "--export", second, "--json"))
    assert picked["export"] == str(second)
    rows = {row["trial_id"]: row for row in run.analysis("exports")["rows"]}
    assert picked["reevaluated"] == rows[best.trial_id] and picked["reevaluated"]["agreement"]["differing"] == 0
    for name in ("adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "train.py"):
        assert (second / name).read_bytes() == (first / name).read_bytes()


def test_an_export_without_evaluation(call, run, tmp_path):
    before = run.analysis("exports")
    out = call("pick", "runs/one", "--export", tmp_path / "out", "--no-check")
    assert out.endswith(f"adapter: {tmp_path}/out\n") and "through PEFT" not in out
    assert run.analysis("exports") == before
    assert "The exported files were not evaluated" in (tmp_path / "out" / "README.md").read_text()


def test_an_export_that_answers_otherwise_fails(run, tmp_path, monkeypatch, capsys):
    copied = RunFolder(shutil.copytree(run.path, tmp_path / "run", ignore=shutil.ignore_patterns("tune")))
    picked = picked_of(copied)
    frame = copied.outcomes(picked.trial_id)
    copied.write_outcomes(picked.trial_id, frame.assign(prediction=1 - frame["prediction"]))
    arguments = ["pick", str(copied.path), "--trial", picked.trial_id, "--export", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["lora-sweep", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    out, err = capsys.readouterr()
    assert ended.value.code == 1 and f"adapter: {tmp_path}/out\n" in out
    assert re.fullmatch(
        r"error: The adapter through PEFT does not answer as it did in the run: 80 of 80 answers on test differ, .*\n",
        err,
    )


# Resuming and loading ------------------------------------------------------------------------------------------


def test_resuming_a_complete_run_changes_nothing(swept, run):
    before = (run.path / "trials.jsonl").read_bytes()
    adapters = {p: p.read_bytes() for p in (run.path / "adapters").rglob("*") if p.is_file()}
    outcomes = {record.trial_id: run.outcomes(record.trial_id) for record in run.records()}
    test_metrics = run.analysis("finalists")
    started = run.info()["started"]
    done = lora_sweep("resume", "runs/one", folder=swept[0])
    assert (done.returncode, done.stderr) == (0, "")
    assert (run.path / "trials.jsonl").read_bytes() == before
    assert {p: p.read_bytes() for p in (run.path / "adapters").rglob("*") if p.is_file()} == adapters
    for trial_id, frame in outcomes.items():
        pd.testing.assert_frame_equal(run.outcomes(trial_id), frame)
    assert run.analysis("finalists") == test_metrics
    info = run.info()
    assert (info["status"], info["started"], info["trials"]["complete"]) == ("complete", started, 3)
    assert info["command"].startswith("lora-sweep run")


def test_sigterm_interrupts_and_a_running_sweep_is_not_resumed(swept):
    command = [*MAIN, "run", "sweep.yaml", "--name", "long", "--set", "budget.steps=100000"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    running = subprocess.Popen(command, cwd=swept[0], env=environment, stderr=subprocess.PIPE, text=True)
    folder = swept[0] / "runs" / "long"
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not list((folder / "tune").glob("sweep/*/checkpoint_*")):
            assert running.poll() is None
            time.sleep(0.1)
        before = (folder / "run.json").read_bytes()
        second = lora_sweep("resume", folder, folder=swept[0])
        assert (second.returncode, second.stdout) == (2, "")
        assert second.stderr.startswith(f"error: {folder}: must not be run by another process")
        assert (folder / "run.json").read_bytes() == before
        running.send_signal(signal.SIGTERM)
        err = running.communicate(timeout=60)[1]
    finally:
        running.kill()
        running.wait()
    assert (running.returncode, err) == (1, "error: interrupted; go on with: lora-sweep resume runs/long\n")
    assert RunFolder.open(folder).info()["status"] == "interrupted"


def test_resume_refuses_changed_data(swept, run, tmp_path):
    copied = shutil.copytree(run.path, tmp_path / "run", ignore=shutil.ignore_patterns("tune"))
    sweep = yaml.safe_load((copied / "sweep.yaml").read_text())
    changed = tmp_path / "eval.csv"
    changed.write_text(Path(sweep["task"]["data"]["eval"]).read_text() + "good,positive\n")
    sweep["task"]["data"]["eval"] = str(changed)
    (copied / "sweep.yaml").write_text(yaml.safe_dump(sweep))
    before = (copied / "run.json").read_bytes()
    done = lora_sweep("resume", copied, folder=swept[0])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: run.json: data.eval: must still have the hash ")
    assert (copied / "run.json").read_bytes() == before


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["spaces"], ["spaces", "--json"]])
def test_help_and_spaces_load_nothing_heavy(tmp_path, arguments):
    code = (
        "import atexit, sys; from lora_sweep.cli import main; sys.argv[1:] = " + repr(arguments) + "\n"
        f"atexit.register(lambda: print('LOADED', sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr))\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout
    assert done.stderr == "LOADED []\n"


def test_reading_commands_do_not_load_torch(swept):
    code = (
        "import atexit, sys; from lora_sweep.cli import main\n"
        "atexit.register(lambda: print('LOADED', sorted({'torch', 'ray'} & set(sys.modules)), file=sys.stderr))\n"
        "sys.argv[1:] = ['pick', 'runs/one']; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=swept[0], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "LOADED []\n")

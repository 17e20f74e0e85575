"""Every command on one real sweep of the tiny BERT, and the run folder's contract."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

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


def test_trial_records(run, read_json):
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


def test_pick(call, run, read_json, picked_of):
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


def test_pick_within_a_limit(call, run, read_json):
    smallest = min(record.trainable_parameters for record in run.records())
    picked = read_json(call("pick", "runs/one", "--max-parameters", smallest, "--json"))
    assert picked["chosen"]["trainable_parameters"] == smallest
    assert picked["limits"]["max_parameters"] == smallest and picked["candidates"]["all"] == 3


def test_pick_by_a_weighted_cost(call, run, read_json):
    picked = read_json(call("pick", "runs/one", "--cost", "train-time=0.5,memory=0.5", "--json"))
    tied = [record for record in run.records() if record.trial_id in picked["tie_set"]["members"]]
    largest = max(r.cost.device_seconds for r in tied), max(r.cost.state_bytes for r in tied)
    costs = {r.trial_id: 0.5 * r.cost.device_seconds / largest[0] + 0.5 * r.cost.state_bytes / largest[1] for r in tied}
    assert picked["cost"]["values"] == pytest.approx(costs)
    assert picked["trial_id"] == min(costs, key=costs.get)


def test_plan_agrees_with_what_was_trained(call, run, read_json):
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


def test_spaces(call, read_json):
    listed = read_json(call("spaces", "--json"))
    assert set(listed) == {"all-linear", "attention", "attention-mlp", "attention-qv", "quick", "rank-grid"}
    assert all(space["description"] and space["space"] for space in listed.values())
    text = call("spaces")
    assert all(f"{name}: {space['description']}" in text for name, space in listed.items())
    assert "target groups" in text and "all-linear: every linear layer but" in text


def test_inspect(call, run, read_json):
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


def test_inspect_of_an_adapter_without_lora(call, read_json):
    assert read_json(call("inspect", "runs/one/adapters/head-only-1", "--json"))["layers"] == []
    assert "1,122 parameters" in call("inspect", "runs/one/adapters/head-only-1")

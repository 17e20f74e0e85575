"""What was written is evaluated through PEFT, beside what the engine found."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file, save_file

from lora_sweep.analysis.rank_curve import measure_rank_curves
from lora_sweep.analysis.session import open_session
from lora_sweep.export import export_trial
from lora_sweep.export.agreement import agreement

SAME_ON_EVAL = {"part": "eval", "examples": 80, "differing": 0, "tolerance": None, "level": "same"}


def close(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_peft_reaches_what_the_engine_reached(make_run, causal, tmp_path, request, family):
    changes = {} if family == "bert" else causal(request.getfixturevalue("llama_dir"))
    run = make_run(**changes)
    exported = export_trial(run, "000-t", tmp_path / "out", merge=True)
    recorded = run.analysis("finalists")["rows"][0]
    row = run.analysis("exports")["rows"][0]
    assert row == json.loads(json.dumps(exported.row))
    assert (row["trial_id"], row["through"], row["dtype"]) == ("000-t", "peft", "float32")
    assert row["examples"] == recorded["examples"] == 80 if family == "bert" else 40
    close(row["metrics"]["test"], recorded["metrics"]["test"])
    close(row["merged"]["metrics"]["test"], recorded["metrics"]["test"])
    tolerance = None if family == "bert" else 0.01
    same = {"part": "test", "examples": row["examples"], "differing": 0, "tolerance": tolerance, "level": "same"}
    assert row["agreement"] == row["merged"]["agreement"] == same
    for name, (low, high) in row["intervals"]["test"].items():
        assert low < row["metrics"]["test"][name] < high
    assert exported.figure.startswith(f"through PEFT {row['peft']} in float32: test ")


def test_the_answers_of_a_trial_that_was_no_finalist_are_kept(make_run, tmp_path):
    run = make_run(finalist=False)
    before = run.outcomes("000-t")
    first = export_trial(run, "000-t", tmp_path / "first", merge=False)
    assert first.row["agreement"] == SAME_ON_EVAL
    kept = run.outcomes("000-t")
    pd.testing.assert_frame_equal(kept[kept["split"] == "eval"].reset_index(drop=True), before)
    test = kept[kept["split"] == "test"]
    assert len(test) == 80 and (test["label"] == test["prediction"]).mean() == first.row["metrics"]["test"]["accuracy"]
    second = export_trial(run, "000-t", tmp_path / "second", merge=False)
    assert second.row["agreement"]["part"] == "test"
    pd.testing.assert_frame_equal(run.outcomes("000-t"), kept)
    assert [row["trial_id"] for row in run.analysis("exports")["rows"]] == ["000-t"]


def test_a_cut_is_exported_like_a_trial(make_run, tmp_path):
    run = make_run()
    session = open_session(run, "cpu", slots=3, holdout_examples=16)
    measure_rank_curves(session, run.records(), shares=(0.9,))
    cut = run.analysis("rank_curves")["trials"][0]["cuts"][1]
    assert cut["name"] == "000-t@rank1"
    exported = export_trial(run, "000-t@rank1", tmp_path / "out", merge=False)
    assert exported.row["agreement"] == SAME_ON_EVAL
    assert not exported.warnings and not exported.errors
    card = (tmp_path / "out" / "README.md").read_text()
    assert "# tiny: adapter of trial 000-t cut to rank 1\n" in card
    assert "it was not trained at these ranks" in card
    assert json.loads((tmp_path / "out" / "adapter_config.json").read_text())["r"] == 1


def damage(run, change):
    file = run.adapter_dir("000-t") / "adapter_model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})


def test_another_answer_than_in_the_run_is_an_error(make_run, tmp_path):
    run = make_run()

    def turn(tensors):
        name = next(name for name in tensors if "classifier" in name and name.endswith("weight"))
        tensors[name] *= -1

    damage(run, turn)
    exported = export_trial(run, "000-t", tmp_path / "out", merge=False)
    assert exported.row["agreement"]["level"] == "different"
    (error,) = exported.errors
    assert error.startswith("The adapter through PEFT does not answer as it did in the run: ")
    assert f"> **Error:** {error}" in (tmp_path / "out" / "README.md").read_text()


def test_an_adapter_that_peft_does_not_load_is_an_error(make_run, tmp_path):
    run = make_run()
    damage(run, lambda tensors: [tensors.pop(name) for name in list(tensors) if ".layer.1." in name])
    exported = export_trial(run, "000-t", tmp_path / "out", merge=False)
    (error,) = exported.errors
    assert error.startswith("PEFT misses weights in the adapter")
    assert exported.row is None and run.analysis("exports") is None
    assert "> **Error:** PEFT misses weights" in (tmp_path / "out" / "README.md").read_text()


def test_nothing_is_evaluated_on_other_data(make_run, tmp_path, sentiment_files):
    data = {part: str(shutil.copy(file, tmp_path)) for part, file in sentiment_files.items()}
    task = {"type": "classification", "data": data, "text": "text", "label": "label", "max_length": 32}
    run = make_run(task=task)
    with Path(data["test"]).open("a") as stream:
        stream.write("good,positive\n")
    exported = export_trial(run, "000-t", tmp_path / "out", merge=False)
    changed = f"{data['test']}: must still have the hash "
    no_script, not_evaluated = exported.warnings
    assert no_script.startswith(f"There is no train.py: {changed}")  # the hold-out's rows cannot be told
    assert not_evaluated.startswith(f"The exported files were not evaluated: {changed}")
    assert not exported.errors and exported.row is None and exported.figure == ""
    assert "The exported files were not evaluated" in (tmp_path / "out" / "README.md").read_text()


def test_no_check(make_run, tmp_path):
    run = make_run()
    exported = export_trial(run, "000-t", tmp_path / "out", merge=False, check=False)
    assert (exported.row, exported.warnings, exported.errors) == (None, (), ())
    assert run.analysis("exports") is None
    assert "The exported files were not evaluated: it was asked for so" in (tmp_path / "out" / "README.md").read_text()


def frame(predictions=None, nll=None):
    ids = {"example_id": [f"test:{row}" for row in range(1, 201)], "split": "test"}
    if predictions is not None:
        return pd.DataFrame(ids | {"prediction": predictions})
    return pd.DataFrame(ids | {"nll_sum": nll, "tokens": 10})


@pytest.mark.parametrize(
    ("turned", "value", "rounded", "level"),
    [
        (2, 0.1, True, "same"),
        (3, 0.5, True, "rounding"),
        (3, 0.5, False, "different"),
        (3, 0.1, True, "different"),
        (0, 0.1, False, "same"),
    ],
)
def test_when_answers_count_as_other_ones(turned, value, rounded, level):
    predictions = np.zeros(200, dtype=int)
    predictions[:turned] = 1
    found = agreement(frame(predictions), frame(np.zeros(200, dtype=int)), value, (0.4, 0.6), rounded)
    expected = {"part": "test", "examples": 200, "differing": turned, "tolerance": None, "level": level}
    assert asdict(found) == expected


def test_language_models_differ_by_nats_per_token():
    nll = np.full(200, 20.0)
    other = nll.copy()
    other[:5] += [0.09, 0.11, 1.99, 2.01, np.nan]
    assert agreement(frame(nll=other), frame(nll=nll), 2.0, None, False).differing == 4
    assert agreement(frame(nll=other), frame(nll=nll), 2.0, None, True).differing == 2


def test_missing_examples_differ():
    predictions = np.zeros(200, dtype=int)
    found = agreement(frame(predictions)[:190], frame(predictions), 0.5, (0.4, 0.6), False)
    assert (found.differing, found.level) == (10, "different")

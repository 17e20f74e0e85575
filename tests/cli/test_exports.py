"""What `lora-sweep pick --export` writes answers as it did in the sweep."""

from __future__ import annotations

import re
import shutil
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from lora_sweep import cli
from lora_sweep.store import RunFolder


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


def test_a_merged_export_needs_transformers_alone(call, run, tmp_path, read_json, picked_of):
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


def test_an_export_that_answers_otherwise_fails(run, tmp_path, monkeypatch, capsys, picked_of):
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

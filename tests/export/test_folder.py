from __future__ import annotations

import shutil
import warnings

import pytest
import torch

from lora_sweep import export
from lora_sweep.adapters import AdaptedModel, save_adapter
from lora_sweep.errors import LoraSweepError, ModelError, RunFolderError
from lora_sweep.models import PEFT_TASK, load_base
from lora_sweep.preflight import preflight
from lora_sweep.records import AdapterSpec
from lora_sweep.store import RunFolder
from lora_sweep.sweep_file import parse_sweep

TOKENS = torch.tensor([[7, 8, 9, 10, 2], [20, 21, 6, 11, 2]])


@pytest.fixture
def make_run(sweep_raw, tmp_path):
    """A run folder with one trial, `t`, whose adapter is random, and what its model answers."""

    def make(targets="attention-qv", **changes):
        config = parse_sweep(sweep_raw(**changes), "sweep.yaml", tmp_path)
        checked = preflight(config, "sweep.yaml")
        run = RunFolder.create(tmp_path / "run")
        run.write_info({"name": "run", **checked.facts})
        base = load_base(config.model, config.task.type, checked.task.labels)
        adapted = AdaptedModel(base.model, base.trained, base.new, base.called)
        weights = adapted.add(0, AdapterSpec(rank=2, alpha=4, target_modules=targets), seed=1)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for name, tensor in weights.named.items():
                tensor.add_(0.05 * torch.randn(tensor.shape, generator=generator)) if "lora_A" not in name else None
        weights.refresh()
        save_adapter(adapted, 0, run.adapter_dir("t"), config.model.name, PEFT_TASK[config.task.type])
        adapted.merge(0)
        return run, logits(adapted.unwrap())

    return make


@pytest.fixture
def causal(text_files):
    def make(folder):
        data = {part: str(file) for part, file in text_files.items()}
        task = {"type": "causal-lm", "data": data, "prompt": "prompt", "response": "response", "max_length": 32}
        return {"model": {"name": str(folder), "dtype": "float32"}, "task": task}

    return make


def logits(model):
    with torch.no_grad():
        return model.eval()(input_ids=TOKENS, attention_mask=torch.ones_like(TOKENS)).logits


def from_peft(base, folder):
    from peft import PeftModel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return logits(PeftModel.from_pretrained(base, folder))


def test_a_classifier(make_run, tmp_path, bert_dir, capfd):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    run, expected = make_run()
    target = tmp_path / "deep" / "out"
    export.export_trial(run, "t", target, merge=True)
    assert capfd.readouterr() == ("", "")
    assert {file.name for file in target.iterdir()} == {
        "README.md", "adapter_config.json", "adapter_model.safetensors", "merged"
    }  # fmt: skip
    merged = AutoModelForSequenceClassification.from_pretrained(target / "merged")
    assert merged.config.id2label == {0: "negative", 1: "positive"}
    torch.testing.assert_close(logits(merged), expected, rtol=0, atol=1e-6)
    assert len(AutoTokenizer.from_pretrained(target / "merged")) == 26
    base = AutoModelForSequenceClassification.from_pretrained(bert_dir, num_labels=2)
    torch.testing.assert_close(from_peft(base, target), expected, rtol=0, atol=1e-5)


def test_the_card_is_code_that_runs(make_run, tmp_path):
    run, expected = make_run()
    export.export_trial(run, "t", tmp_path / "out", merge=False)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "trial t" in card and "0 negative, 1 positive" in card
    code = card.split("```python\n")[1].split("```")[0].replace("PATH_OF_THIS_FOLDER", str(tmp_path / "out"))
    scope: dict[str, object] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(code, scope)
    torch.testing.assert_close(logits(scope["model"]), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_causal_language_model(make_run, causal, tmp_path, request, family):
    from transformers import AutoModelForCausalLM

    folder = request.getfixturevalue(f"{family}_dir")
    space = {"rank": 2, "target_modules": "all-linear", "learning_rate": 1e-3, "batch_size": 8}
    run, expected = make_run("all-linear", **causal(folder), space=space)
    export.export_trial(run, "t", tmp_path / "out", merge=True)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "merged")
    torch.testing.assert_close(logits(merged), expected, rtol=0, atol=1e-5)
    base = AutoModelForCausalLM.from_pretrained(folder)
    torch.testing.assert_close(from_peft(base, tmp_path / "out"), expected, rtol=0, atol=1e-5)
    assert "AutoModelForCausalLM" in (tmp_path / "out" / "README.md").read_text()


def test_the_merged_model_has_the_dtype_of_the_checkpoint(make_run, bert_dir, tmp_path):
    from transformers import AutoModelForSequenceClassification, BertModel

    folder = shutil.copytree(bert_dir, tmp_path / "half")
    BertModel.from_pretrained(bert_dir, add_pooling_layer=False).bfloat16().save_pretrained(folder)
    run, expected = make_run(model={"name": str(folder), "dtype": "float32"})
    export.export_trial(run, "t", tmp_path / "out", merge=True)
    merged = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out" / "merged")
    assert merged.dtype == torch.bfloat16
    torch.testing.assert_close(logits(merged).float(), expected, rtol=0, atol=0.02)


def refused(error, *args):
    with pytest.raises(error) as caught:
        export.export_trial(*args)
    return str(caught.value)


def test_refusals(make_run, tmp_path):
    run, _ = make_run()
    (tmp_path / "there").mkdir()
    (tmp_path / "file").write_text("")
    assert refused(RunFolderError, run, "t", tmp_path / "there", False) == (
        f"{tmp_path}/there: the export folder must not exist yet. Choose another, or remove it."
    )
    assert refused(RunFolderError, run, "other", tmp_path / "out", False) == (
        f"{run.path}/adapters/other: must hold the trial's adapter; it is not there. Pick another trial."
    )
    assert refused(RunFolderError, run, "t", tmp_path / "file" / "out", False) == (
        f"{tmp_path}/file/out: must be where a folder can be made (Not a directory). Choose another place."
    )
    assert not list(tmp_path.glob("out*"))


def test_a_changed_base_is_not_merged(make_run, bert_dir, tmp_path):
    folder = shutil.copytree(bert_dir, tmp_path / "model")
    run, _ = make_run(model={"name": str(folder), "dtype": "float32"})
    (folder / "config.json").write_text((folder / "config.json").read_text() + "\n")
    text = refused(ModelError, run, "t", tmp_path / "out", True)
    assert text.startswith(f"model {folder}: must have the recorded hash {run.info()['model']['sha256']}, got '")
    assert text.endswith("Restore the model that the run was made with.")
    assert not list(tmp_path.glob("out*"))


def test_an_export_that_fails_leaves_nothing(make_run, tmp_path, monkeypatch):
    run, _ = make_run()

    def fail(*_):
        raise LoraSweepError("no")

    monkeypatch.setattr(export, "write_merged", fail)
    assert refused(LoraSweepError, run, "t", tmp_path / "out", True) == "no"
    assert not list(tmp_path.glob("out*"))

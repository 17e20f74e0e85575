from __future__ import annotations

import shutil
import warnings

import pytest
import torch

from lora_sweep.adapters import AdaptedModel, read_adapter
from lora_sweep.errors import LoraSweepError, ModelError, RunFolderError
from lora_sweep.export import export_trial, folder
from lora_sweep.export.subject import read_subject
from lora_sweep.models import load_base

TOKENS = torch.tensor([[7, 8, 9, 10, 2], [20, 21, 6, 11, 2]])


def logits(model):
    with torch.no_grad():
        return model.eval()(input_ids=TOKENS, attention_mask=torch.ones_like(TOKENS)).logits


def in_the_run(run):
    """What the trial's adapter answers in this package."""
    subject = read_subject(run, "000-t")
    base = load_base(subject.model_config, subject.task["type"], subject.labels)
    adapted = AdaptedModel(base.model, base.trained, base.new, base.called)
    file = read_adapter(subject.adapter)
    adapted.load(0, file.spec, file.tensors)
    with adapted.routing.whole(0):
        return logits(adapted.model)


def from_peft(base, folder):
    from peft import PeftModel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return logits(PeftModel.from_pretrained(base, folder))


def test_a_classifier(make_run, tmp_path, bert_dir, capfd):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    run = make_run()
    expected = in_the_run(run)
    target = tmp_path / "deep" / "out"
    capfd.readouterr()
    exported = export_trial(run, "000-t", target, merge=True)
    assert capfd.readouterr() == ("", "")
    assert (exported.folder, exported.warnings, exported.errors) == (target, (), ())
    assert {file.name for file in target.iterdir()} == {
        "README.md", "adapter_config.json", "adapter_model.safetensors", "merged", "splits.json", "tokenizer.json",
        "tokenizer_config.json", "train.py",
    }  # fmt: skip
    merged = AutoModelForSequenceClassification.from_pretrained(target / "merged")
    assert merged.config.id2label == {0: "negative", 1: "positive"}
    torch.testing.assert_close(logits(merged), expected, rtol=0, atol=1e-5)
    assert len(AutoTokenizer.from_pretrained(target / "merged")) == 26
    assert len(AutoTokenizer.from_pretrained(target)) == 26
    base = AutoModelForSequenceClassification.from_pretrained(bert_dir, num_labels=2)
    torch.testing.assert_close(from_peft(base, target), expected, rtol=0, atol=1e-5)


def test_the_card_is_code_that_runs(make_run, tmp_path):
    run = make_run()
    export_trial(run, "000-t", tmp_path / "out", merge=False, check=False)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "trial 000-t" in card and "0 negative, 1 positive" in card
    code = card.split("```python\n")[1].split("```")[0].replace("PATH_OF_THIS_FOLDER", str(tmp_path / "out"))
    scope: dict[str, object] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(code, scope)
    torch.testing.assert_close(logits(scope["model"]), in_the_run(run), rtol=0, atol=1e-5)
    assert len(scope["tokenizer"]) == 26


@pytest.mark.parametrize(("family", "bias"), [("llama", "none"), ("gpt2", "none"), ("gpt2", "lora_only")])
def test_a_causal_language_model(make_run, causal, tmp_path, request, family, bias):
    from transformers import AutoModelForCausalLM

    source = request.getfixturevalue(f"{family}_dir")
    run = make_run({"target_modules": "all-linear", "bias": bias}, **causal(source))
    expected = in_the_run(run)
    export_trial(run, "000-t", tmp_path / "out", merge=True)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "merged")
    torch.testing.assert_close(logits(merged), expected, rtol=0, atol=1e-5)
    base = AutoModelForCausalLM.from_pretrained(source)
    torch.testing.assert_close(from_peft(base, tmp_path / "out"), expected, rtol=0, atol=1e-5)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "AutoModelForCausalLM" in card and ("in the biases of these layers" in card) == (bias != "none")
    assert ("it takes no trained biases" in card) == (bias != "none")


def test_the_merged_model_has_the_dtype_of_the_checkpoint(make_run, bert_dir, tmp_path):
    from transformers import AutoModelForSequenceClassification, BertModel

    source = shutil.copytree(bert_dir, tmp_path / "half")
    BertModel.from_pretrained(bert_dir, add_pooling_layer=False).bfloat16().save_pretrained(source)
    run = make_run(model={"name": str(source), "dtype": "float32"})
    exported = export_trial(run, "000-t", tmp_path / "out", merge=True)
    merged = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out" / "merged")
    assert merged.dtype == torch.bfloat16
    assert exported.row["merged"]["dtype"] == "bfloat16"
    torch.testing.assert_close(logits(merged).float(), in_the_run(run), rtol=0, atol=0.05)


def refused(error, *args):
    with pytest.raises(error) as caught:
        export_trial(*args)
    return str(caught.value)


def test_refusals(make_run, tmp_path):
    run = make_run()
    (tmp_path / "there").mkdir()
    (tmp_path / "file").write_text("")
    assert refused(RunFolderError, run, "000-t", tmp_path / "there", False) == (
        f"{tmp_path}/there: the export folder must not exist yet. Choose another, or remove it."
    )
    assert refused(RunFolderError, run, "other", tmp_path / "out", False) == (
        f"{run.path}/adapters/other: must hold the trial's adapter; it is not there. Pick another trial."
    )
    assert refused(RunFolderError, run, "000-t", tmp_path / "file" / "out", False) == (
        f"{tmp_path}/file/out: must be where a folder can be made (Not a directory). Choose another place."
    )
    shutil.copytree(run.adapter_dir("000-t"), run.adapter_dir("000-t@rank2"))
    assert refused(RunFolderError, run, "000-t@rank2", tmp_path / "out", False) == (
        f"{run.path}/analysis/rank_curves.json: must tell how 000-t@rank2 was cut. Run `lora-sweep analyze` again."
    )
    assert not list(tmp_path.glob("out*"))


def test_a_changed_base_is_not_merged(make_run, bert_dir, tmp_path):
    source = shutil.copytree(bert_dir, tmp_path / "model")
    run = make_run(model={"name": str(source), "dtype": "float32"})
    (source / "config.json").write_text((source / "config.json").read_text() + "\n")
    text = refused(ModelError, run, "000-t", tmp_path / "out", True)
    assert text.startswith(f"model {source}: must have the recorded hash {run.info()['model']['sha256']}, got '")
    assert text.endswith("Restore the model that the run was made with.")
    assert not list(tmp_path.glob("out*"))


def test_an_adapter_is_exported_where_its_base_is_gone(make_run, bert_dir, tmp_path):
    source = shutil.copytree(bert_dir, tmp_path / "model")
    run = make_run(model={"name": str(source), "dtype": "float32"})
    shutil.rmtree(source)
    exported = export_trial(run, "000-t", tmp_path / "out", merge=False)
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        "README.md", "adapter_config.json", "adapter_model.safetensors"
    }  # fmt: skip
    assert [warning.split(":")[0] for warning in exported.warnings] == [
        "The tokenizer's files are not in the folder", "There is no train.py", "The exported files were not evaluated"
    ]  # fmt: skip
    assert exported.row is None and not exported.errors
    card = (tmp_path / "out" / "README.md").read_text()
    assert "whether they answer as in the run was not tested" in card and "There is no script" in card


def test_a_large_tokenizer_stays_with_the_base(make_run, tmp_path, bert_dir, monkeypatch):
    monkeypatch.setattr(folder, "MOST_TOKENIZER_BYTES", 100)
    export_trial(make_run(), "000-t", tmp_path / "out", merge=False, check=False)
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        "README.md", "adapter_config.json", "adapter_model.safetensors", "splits.json", "train.py"
    }  # fmt: skip
    assert f"AutoTokenizer.from_pretrained('{bert_dir}')" in (tmp_path / "out" / "README.md").read_text()


def test_an_export_that_fails_leaves_nothing(make_run, tmp_path, monkeypatch):
    run = make_run()

    def fail(*_):
        raise LoraSweepError("no")

    monkeypatch.setattr(folder, "write_merged", fail)
    assert refused(LoraSweepError, run, "000-t", tmp_path / "out", True) == "no"
    assert not list(tmp_path.glob("out*"))
    assert run.analysis("exports") is None

from __future__ import annotations

import json
import shutil

import pytest
import torch
from transformers import AutoConfig, BertForSequenceClassification, BertModel

from lora_sweep import models
from lora_sweep.adapters import AdaptedModel
from lora_sweep.config import ModelConfig
from lora_sweep.errors import ModelError
from lora_sweep.records import AdapterSpec

HEAD = ("classifier",)
POOLER = "bert.pooler.dense"
LABELS = ("negative", "positive")


def config(folder, dtype="float32", **more):
    return ModelConfig(name=str(folder), dtype=dtype, **more)


def message(function, *args):
    with pytest.raises(ModelError) as error:
        function(*args)
    return str(error.value)


@pytest.fixture
def copy_of_bert(bert_dir, tmp_path):
    return shutil.copytree(bert_dir, tmp_path / "copy")


@pytest.fixture(scope="module")
def classifier_dir(bert_dir, tmp_path_factory):
    """A whole checkpoint with a pooler and a head for two labels."""
    folder = tmp_path_factory.mktemp("classifier")
    shutil.copytree(bert_dir, folder, dirs_exist_ok=True)
    torch.manual_seed(3)
    description = AutoConfig.from_pretrained(bert_dir)
    description.id2label = dict(enumerate(LABELS))
    BertForSequenceClassification(description).save_pretrained(folder)
    return folder


def weights_of(base, seed):
    adapted = AdaptedModel(base.model, base.trained, base.new, base.called)
    weights = adapted.add(0, AdapterSpec(rank=2), seed)
    return {name: tensor.detach().clone() for name, tensor in weights.named.items()}


# What is new in a checkpoint -----------------------------------------------------------------------------------


def test_a_missing_pooler_is_new_and_trained(bert_dir):
    base = models.load_base(config(bert_dir), "classification", LABELS)
    assert base.new == (POOLER, "classifier")
    assert set(base.trained) == {POOLER, "classifier"}
    assert not any(parameter.requires_grad for parameter in base.model.parameters())
    assert not base.model.training
    weights = weights_of(base, 0)
    assert weights[f"{POOLER}.weight"].shape == (32, 32)


def test_new_modules_come_from_the_seed_of_the_trial(bert_dir):
    torch.manual_seed(1)
    one = weights_of(models.load_base(config(bert_dir), "classification", LABELS), 7)
    torch.manual_seed(2)
    two = weights_of(models.load_base(config(bert_dir), "classification", LABELS), 7)
    other = weights_of(models.load_base(config(bert_dir), "classification", LABELS), 8)
    for name in (f"{POOLER}.weight", "classifier.weight"):
        assert torch.equal(one[name], two[name])
        assert not torch.equal(one[name], other[name])
        assert 0.01 < float(one[name].std()) < 0.04  # BERT's own rule: 0.02
    assert not one["classifier.bias"].any()


def test_a_head_for_the_same_labels_is_where_training_starts(classifier_dir):
    base = models.load_base(config(classifier_dir), "classification", LABELS)
    assert (base.new, base.trained) == ((), HEAD)
    saved = BertForSequenceClassification.from_pretrained(classifier_dir)
    weights = weights_of(base, 5)
    assert torch.equal(weights["classifier.weight"], saved.classifier.weight)
    assert f"{POOLER}.weight" not in weights


def test_a_head_for_another_number_of_labels_is_new(classifier_dir):
    base = models.load_base(config(classifier_dir), "classification", ("a", "b", "c"))
    assert (base.new, base.trained) == (HEAD, HEAD)
    assert weights_of(base, 0)["classifier.weight"].shape == (3, 32)
    assert base.model.config.id2label == {0: "a", 1: "b", 2: "c"}


@pytest.mark.parametrize("labels", [LABELS, ("a", "b", "c")])
@pytest.mark.parametrize("whole", [True, False])
def test_a_planned_base_is_like_the_loaded_one(bert_dir, classifier_dir, whole, labels):
    model = config(classifier_dir if whole else bert_dir)
    planned = models.planned_base(model, "classification", labels)
    loaded = models.load_base(model, "classification", labels)
    assert planned.device.type == "meta"
    assert (planned.new, set(planned.trained)) == (loaded.new, set(loaded.trained))
    assert planned.called == loaded.called
    shapes = {name: parameter.shape for name, parameter in loaded.model.named_parameters()}
    assert {name: parameter.shape for name, parameter in planned.model.named_parameters()} == shapes


def test_causal_models_have_nothing_new(llama_dir, gpt2_dir):
    for folder in (llama_dir, gpt2_dir):
        base = models.planned_base(config(folder), "causal-lm")
        assert (base.new, base.trained) == ((), ())


@pytest.mark.parametrize("load", [models.load_base, models.planned_base])
def test_an_encoder_is_no_causal_language_model(bert_dir, load):
    text = message(load, config(bert_dir), "causal-lm")
    assert text == (
        f"model {bert_dir}: its checkpoint must hold every weight of a causal language model; it lacks "
        "cls.predictions. Use a checkpoint of a causal language model."
    )


# Device and dtype ----------------------------------------------------------------------------------------------


def test_a_base_too_large_for_the_device_is_refused(bert_dir, monkeypatch):
    monkeypatch.setattr(models, "free_memory", lambda device: 1000)
    text = message(models.load_base, config(bert_dir), "classification", LABELS)
    assert text == (
        f"model {bert_dir}: must fit one device: 0.0 GiB of weights, 0.0 GiB free on cpu. "
        "Use a smaller base or dtype, or a larger device."
    )


@pytest.mark.parametrize(
    ("avx512", "amx", "expected"),
    [(False, False, torch.float32), (True, False, torch.bfloat16), (False, True, torch.bfloat16)],
)
def test_auto_is_bf16_where_the_hardware_has_it(monkeypatch, avx512, amx, expected):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert models.resolve_dtype("auto", "cpu") == expected
    assert models.resolve_dtype("float16", "cpu") == torch.float16


def test_auto_on_cuda(monkeypatch):
    for supported, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda supported=supported: supported)
        assert models.resolve_dtype("auto", "cuda") == expected


def test_the_dtype_is_the_one_asked_for(bert_dir):
    assert models.load_base(config(bert_dir, "bfloat16"), "classification", LABELS).dtype == torch.bfloat16


# Refused -------------------------------------------------------------------------------------------------------


def describe(folder, **changes):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_code_of_the_models_own_is_not_run(copy_of_bert):
    auto = {"AutoConfig": "own.OwnConfig", "AutoModelForSequenceClassification": "own.OwnModel"}
    describe(copy_of_bert, model_type="own", auto_map=auto)
    (copy_of_bert / "own.py").write_text("raise AssertionError('this code was run')")
    assert message(models.planned_base, config(copy_of_bert), "classification", LABELS) == (
        f"model {copy_of_bert}: must not need code of its own while model.trust_remote_code is false. "
        "Read that code, and set model.trust_remote_code: true if you trust it."
    )


def test_an_unknown_architecture(copy_of_bert):
    describe(copy_of_bert, model_type="no-such")
    text = message(models.meta_base, config(copy_of_bert), "classification", LABELS)
    assert text.startswith(f"model {copy_of_bert}: must be one that can be loaded (The checkpoint you are trying ")
    assert text.endswith("Are its files whole, and does this version of transformers know its architecture?")


def test_weights_that_are_cut_off(copy_of_bert):
    file = copy_of_bert / "model.safetensors"
    file.write_bytes(file.read_bytes()[:2000])
    for load in (models.load_base, models.planned_base):
        assert message(load, config(copy_of_bert), "classification", LABELS).startswith(
            f"model {copy_of_bert}: must be one that can be loaded (Error while deserializing header"
        )


def test_a_checkpoint_of_half_a_model(copy_of_bert):
    from safetensors.torch import load_file, save_file

    file = copy_of_bert / "model.safetensors"
    kept = {name: tensor for name, tensor in load_file(file).items() if "layer.1." not in name}
    save_file(kept, file, metadata={"format": "pt"})
    assert message(models.planned_base, config(copy_of_bert), "classification", LABELS) == (
        f"model {copy_of_bert}: its checkpoint must fit its architecture; it lacks 10 modules, "
        "bert.encoder.layer.1.attention.self.query first. Use a complete checkpoint."
    )


def test_linear_layers_that_a_forward_calls(bert_dir):
    base = models.load_base(config(bert_dir), "classification", LABELS)
    assert len(base.called) == 2 * 6 + 2
    assert isinstance(base.model.bert, BertModel)

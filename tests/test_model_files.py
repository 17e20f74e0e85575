from __future__ import annotations

import json
import shutil

import pytest
import torch

from lora_sweep import model_files
from lora_sweep.config import ModelConfig
from lora_sweep.errors import ModelError


@pytest.fixture
def copy_of_bert(bert_dir, tmp_path):
    return shutil.copytree(bert_dir, tmp_path / "copy")


def message(function, *args):
    with pytest.raises(ModelError) as error:
        function(*args)
    return str(error.value)


def test_facts_name_the_files(copy_of_bert):
    before = model_files.model_facts(ModelConfig(name=str(copy_of_bert)))
    assert before["path"] == str(copy_of_bert)
    assert model_files.model_facts(ModelConfig(name=str(copy_of_bert))) == before
    file = copy_of_bert / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"layer_norm_eps": 1e-6}))
    assert model_files.model_facts(ModelConfig(name=str(copy_of_bert)))["sha256"] != before["sha256"]
    assert model_files.model_facts(ModelConfig(name="org/x", revision="main")) == {"name": "org/x", "revision": "main"}


def test_the_dtype_of_a_checkpoint(bert_dir):
    assert model_files.checkpoint_dtype(ModelConfig(name=str(bert_dir))) == torch.float32


def test_a_tokenizer_without_a_vocabulary(copy_of_bert):
    for file in copy_of_bert.glob("tokenizer*"):
        file.unlink()
    assert message(model_files.load_tokenizer, ModelConfig(name=str(copy_of_bert))) == (
        f"tokenizer of model {copy_of_bert}: must have a vocabulary. "
        "Copy the tokenizer's files (tokenizer.json, vocab.txt, ...) into the model's folder."
    )


def test_an_unknown_hub_id():
    text = message(model_files.read_description, ModelConfig(name="nobody/none"))
    assert text.endswith("There is no such folder, and HF_HUB_OFFLINE is set: a hub model must be in the local cache.")

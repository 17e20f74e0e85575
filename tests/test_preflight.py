from __future__ import annotations

import copy
import shutil

import pytest
import torch
import yaml
from torch import nn

from lora_sweep.adapters import AdaptedModel
from lora_sweep.adapters.targets import resolve_targets
from lora_sweep.errors import ConfigError, InputError, ModelError, RunFolderError, TargetError
from lora_sweep.models import called_linear
from lora_sweep.preflight import check_unchanged, preflight
from lora_sweep.records import AdapterSpec
from lora_sweep.sweep_file import parse_sweep


@pytest.fixture
def check(sweep_raw, tmp_path):
    return lambda **changes: preflight(parse_sweep(sweep_raw(**changes), "sweep.yaml", tmp_path), "sweep.yaml")


def space(**changes):
    return {"rank": 2, "target_modules": "attention-qv", "learning_rate": 1e-3, "batch_size": 8} | changes


def test_a_sweep_that_can_start(check, bert_dir, sentiment_files):
    checked = check()
    assert checked.task.labels == ("negative", "positive")
    assert checked.base.new == ("bert.pooler.dense", "classifier")
    facts = checked.facts
    assert facts["model"]["path"] == str(bert_dir)
    assert len(facts["model"]["sha256"]) == 64
    assert facts["model"]["parameters"] == sum(p.numel() for p in checked.base.model.parameters())
    parts = facts["data"]["parts"]
    assert {name: part["examples"] for name, part in parts.items()} == {
        "train": 228,
        "holdout": 12,
        "eval": 80,
        "test": 80,
    }
    assert parts["train"]["path"] == str(sentiment_files["train"])
    assert facts["task"]["labels"] == ["negative", "positive"]
    assert facts["task"]["pad_id"] == checked.task.pad_id == 0
    assert facts["model"]["trust_remote_code"] is False and facts["model"]["revision"] is None
    assert facts["model"]["dtype"] == "float32" and "commit" not in facts["model"]
    yaml.safe_dump(facts)  # plain values only


def test_biases_that_the_base_lacks_are_told(check, llama_dir, text_files):
    assert check(space=space(bias=["none", "lora_only"])).notes == ()
    task = {"type": "causal-lm", "prompt": "prompt", "response": "response", "max_length": 40}
    llama = {"model": {"name": str(llama_dir)}, "task": task | {"data": {p: str(f) for p, f in text_files.items()}}}
    wide = space(bias=["none", "lora_only"], target_modules={"qv": "attention-qv", "all": "all-linear"})
    checked = check(**llama, metric=None, space=wide)
    (note,) = checked.notes
    assert note.startswith(f"bias: lora_only trains no bias of {llama_dir} with the targets all, qv: none of ")
    assert checked.facts["space_notes"] == [note]
    assert not {"LoraLinear"} & {type(module).__name__ for module in checked.base.model.modules()}
    assert check(**llama, metric=None, space=space()).notes == ()


def test_the_model_is_left_unwrapped(check):
    names = [type(module).__name__ for module in check().base.model.modules()]
    assert not {"LoraLinear", "TrainedModule"} & set(names)


def test_what_a_space_offers_is_tried_at_its_largest_rank(check):
    wide = space(rank={"integer": [1, 40]}, learning_rate={"log_uniform": [1e-3, 1e-2]})
    with pytest.raises(
        TargetError, match=r"^sweep\.yaml: space\.rank: must be at most 32, .* got [34]\d\. Lower the rank"
    ):
        check(space=wide)
    check(space=space(rank={"integer": [1, 32]}, learning_rate={"log_uniform": [1e-3, 1e-2]}))


def test_one_bad_choice_among_good_ones_is_found(check):
    choices = {"good": "attention-qv", "bad": ["query", "q_proj"]}
    with pytest.raises(TargetError, match=r"^sweep\.yaml: space\.target_modules: must match .* got 'q_proj'\."):
        check(space=space(target_modules=choices, learning_rate={"log_uniform": [1e-3, 1e-2]}))


def test_a_pooler_that_the_checkpoint_lacks_is_no_target(check):
    with pytest.raises(TargetError, match=r"^sweep\.yaml: space\.target_modules: must not be .* got 'pooler\.dense'"):
        check(space=space(target_modules="pooler.dense"))


def test_max_length_counts_only_where_texts_are_longer(check, sweep_raw, tmp_path):
    raw = sweep_raw()
    task = raw["task"] | {"max_length": 65}
    check(task=task)
    long = tmp_path / "long.csv"
    long.write_text("text,label\n" + ("good " * 80 + ",positive\nbad,negative\n") * 5)
    with pytest.raises(ConfigError) as error:
        check(task=task | {"data": task["data"] | {"train": str(long)}})
    assert str(error.value) == (
        f"sweep.yaml: task.max_length: must be at most 64, the longest input of {raw['model']['name']}, got 65. "
        "Set it to 64: longer texts are cut."
    )


def test_a_tokenizer_of_another_model(check, bert_dir, llama_dir, tmp_path):
    import json

    folder = shutil.copytree(bert_dir, tmp_path / "mixed")
    file = folder / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["good"] = 40
    file.write_text(json.dumps(tokenizer))
    with pytest.raises(ModelError) as error:
        check(model={"name": str(folder), "dtype": "float32"})
    assert str(error.value) == (
        f"tokenizer of model {folder}: must give token numbers below 32, the model's vocabulary, got 40. "
        "Is the tokenizer in the model's folder the model's own?"
    )


def test_a_causal_model_of_an_encoder_is_refused_before_anything_runs(check, bert_dir, text_files):
    data = {part: str(file) for part, file in text_files.items()}
    task = {"type": "causal-lm", "data": data, "prompt": "prompt", "response": "response", "max_length": 32}
    with pytest.raises(ModelError, match="must hold every weight of a causal language model"):
        check(task=task)


# Layers that are never called ----------------------------------------------------------------------------------


class _Attention(nn.Module):
    """Torch's own attention uses the weight of its out_proj without calling it."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(8, 16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.up = nn.Linear(16, 16)

    def forward(self, input_ids):
        x = self.embed(input_ids)
        return self.up(self.attention(x, x, x)[0])


def test_a_layer_whose_forward_is_never_called(caplog):
    torch.manual_seed(0)
    model = _Attention()
    called = called_linear(model)
    assert called == {"up"}
    with pytest.raises(TargetError) as error:
        resolve_targets(model, ["up", "out_proj"], called=called)
    assert str(error.value) == (
        "target_modules: must be layers that a forward pass calls with the batch's rows; attention.out_proj is not, "
        "got 'out_proj'. It is used by its weight alone, or for something that all rows share: leave it out."
    )
    assert AdaptedModel(model, called=called).targets(AdapterSpec(rank=2, target_modules="all-linear")) == ("up",)
    assert "all-linear leaves out attention.out_proj: not called with the batch's rows" in caplog.text


# Resuming ------------------------------------------------------------------------------------------------------


def test_changed_inputs_are_refused(check):
    facts = check().facts
    check_unchanged(facts, facts)
    for path, name in ((("model",), "model"), (("data", "parts", "eval"), "data.eval")):
        recorded = copy.deepcopy(dict(facts))
        part = recorded
        for key in path:
            part = part[key]
        part["sha256"] = "0" * 64
        with pytest.raises(RunFolderError) as error:
            check_unchanged(recorded, facts)
        assert str(error.value).startswith(f"run.json: {name}: must still have the hash {'0' * 64}, got '")
        assert str(error.value).endswith("Restore it, or start a new run.")


def test_a_hub_model_is_recorded_and_compared_by_its_commit(check, bert_dir, tmp_path, monkeypatch):
    from huggingface_hub import constants

    commit, other = "a" * 40, "b" * 40
    cached = tmp_path / "hub" / "models--some--bert"
    for name in (commit, other):
        shutil.copytree(bert_dir, cached / "snapshots" / name)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    model = {"name": "some/bert", "dtype": "float32", "revision": "main"}
    facts = check(model=model).facts
    assert facts["model"]["commit"] == commit and facts["model"]["revision"] == "main"
    check_unchanged(facts, facts)

    (cached / "refs" / "main").write_text(other)
    with pytest.raises(RunFolderError) as error:
        check_unchanged(facts, check(model=model).facts)
    assert str(error.value) == (
        f"run.json: model: must still be of commit {commit}, got '{other}'. Restore it, or start a new run."
    )


def test_a_run_json_without_hashes_is_refused(check):
    facts = check().facts
    with pytest.raises(InputError, match=r"^run\.json: model: must still have the hash None"):
        check_unchanged({"model": {}, "data": {}}, facts)
    with pytest.raises(InputError, match=r"^run\.json: model"):
        check_unchanged({}, facts)

"""Parameters before any training (arXiv 2106.09685, section 4.2; LLaMA: arXiv 2302.13971, table 2)."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lora_sweep.adapters import AdaptedModel, base_parameters, count_parameters
from lora_sweep.config import ModelConfig
from lora_sweep.errors import ModelError, TargetError
from lora_sweep.models import FrozenBase, called_linear, meta_base, planned_base
from lora_sweep.plan import plan_sweep, planned_trials
from lora_sweep.records import AdapterSpec
from lora_sweep.sweep_file import parse_sweep

LLAMA_7B = 6_738_415_616
QV, ATTENTION = {"qv": ["q_proj", "v_proj"]}, {"attention": ["q_proj", "k_proj", "v_proj", "o_proj"]}


@pytest.fixture(scope="module")
def llama_7b():
    """The shape of LLaMA-7B, without weights."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    description = LlamaConfig(
        hidden_size=4096, num_hidden_layers=32, intermediate_size=11008, num_attention_heads=32, vocab_size=32000
    )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(description, attn_implementation="eager")
    model.config.use_cache = False
    return FrozenBase(model.eval(), "llama-7b", "causal-lm", (), (), called_linear(model))


@pytest.fixture
def sweep(sweep_raw, tmp_path):
    return lambda **changes: parse_sweep(sweep_raw(**changes), "sweep.yaml", tmp_path)


def space(targets, rank, **more):
    return {"rank": rank, "target_modules": targets, "learning_rate": 1e-3, "batch_size": 8, **more}


def test_llama_7b(llama_7b, sweep):
    assert base_parameters(llama_7b.model) == LLAMA_7B
    (qv,) = plan_sweep(sweep(space=space(QV, 8)), llama_7b, "sweep.yaml")
    assert (qv.lora_parameters, qv.trainable_parameters, qv.layers) == (4_194_304, 4_194_304, 64)
    assert f"{qv.share:.4%}" == "0.0622%"
    assert qv.reduction == pytest.approx(1606.56, abs=0.01)
    assert (qv.adapter_bytes_fp32, qv.adapter_bytes_bf16) == (4 * 4_194_304, 2 * 4_194_304)
    assert (qv.target_label, qv.targets, qv.target_text) == ("qv", "q_proj v_proj", "qv (q_proj v_proj)")
    # the share of base and adapter together, as papers also give it
    assert qv.trainable_parameters / (LLAMA_7B + qv.trainable_parameters) == pytest.approx(0.000622, abs=5e-7)
    assert LLAMA_7B + qv.trainable_parameters == 6_742_609_920

    (attention,) = plan_sweep(sweep(space=space(ATTENTION, 16)), llama_7b, "sweep.yaml")
    assert (attention.lora_parameters, attention.layers) == (16_777_216, 128)
    assert 0.0024 <= attention.share <= 0.0025
    (group,) = plan_sweep(sweep(space=space("attention", 16)), llama_7b, "sweep.yaml")
    assert group.lora_parameters == attention.lora_parameters
    assert group.target_text == "attention"


def test_one_square_layer():
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(4096, 4096, bias=False))
    count = count_parameters(AdaptedModel(model), AdapterSpec(rank=16, target_modules="0"))
    assert (count.lora, count.reduction) == (131_072, 128)
    assert (count.adapter_bytes(), count.adapter_bytes("bfloat16")) == (524_288, 262_144)


def test_rows_are_sorted_by_size_and_count_what_the_checkpoint_lacks(sweep):
    config = sweep()
    base = planned_base(config.model, "classification", ("negative", "positive"))
    rows = plan_sweep(config, base, "sweep.yaml")
    assert [(row.targets, row.rank) for row in rows] == [
        ("attention-qv", 2), ("attention-qv", 4), ("all-linear", 2), ("attention-qv", 8), ("all-linear", 4),
        ("all-linear", 8),
    ]  # fmt: skip
    head_and_pooler = (32 * 2 + 2) + (32 * 32 + 32)
    assert all(row.trainable_parameters - row.lora_parameters == head_and_pooler for row in rows)
    assert rows[0].lora_parameters == 2 * 2 * 2 * (32 + 32)
    assert rows[0].share == rows[0].trainable_parameters / base_parameters(base.model)
    assert set(rows[0].as_dict()) == {
        "target_label", "targets", "rank", "ranks", "layers", "lora_parameters", "bias_parameters",
        "trainable_parameters", "share", "reduction", "adapter_bytes_fp32", "adapter_bytes_bf16",
    }  # fmt: skip
    assert plan_sweep(config, base, "sweep.yaml") == rows  # the base is left as it was


def test_trained_biases_are_counted(sweep):
    config = sweep(space=space("all-linear", 2, bias=["none", "lora_only"]))
    base = planned_base(config.model, "classification", ("negative", "positive"))
    none, own = plan_sweep(config, base, "sweep.yaml")
    # query, key, value and the two outputs of 32, the intermediate layer of 64, in two blocks
    assert (none.bias_parameters, own.bias_parameters) == (0, 2 * (5 * 32 + 64))
    assert own.trainable_parameters == none.trainable_parameters + own.bias_parameters
    assert own.lora_parameters == none.lora_parameters


def test_a_rank_that_does_not_fit_is_found_without_weights(llama_7b, sweep):
    with pytest.raises(TargetError) as error:
        plan_sweep(sweep(space=space(QV, [8, 8192])), llama_7b, "sweep.yaml")
    assert str(error.value) == (
        "sweep.yaml: space.rank: must be at most 4096, the smaller side of model.layers.0.self_attn.q_proj, got 8192. "
        "Lower the rank or leave that layer out."
    )


@pytest.mark.parametrize(
    ("search", "trials"),
    [
        ({"algorithm": "grid", "trials": 3}, 4),
        ({"algorithm": "random", "trials": 3}, 3),
        ({"algorithm": "random", "trials": 9}, 4),
    ],
)
def test_how_many_trials_there_will_be(sweep, search, trials):
    assert planned_trials(sweep(space=space("attention", [2, 4], dropout=[0.0, 0.1]), search=search)) == trials


def test_of_a_continuous_space_as_many_as_asked_for(sweep):
    assert planned_trials(sweep()) == 4
    assert planned_trials(sweep(search={"trials": 4, "repeats": 3})) == 12


def test_a_folder_without_weights_is_refused(tmp_path):
    from transformers import LlamaConfig

    LlamaConfig().save_pretrained(tmp_path)
    with pytest.raises(ModelError) as error:
        meta_base(ModelConfig(name=str(tmp_path)), "causal-lm")
    assert str(error.value) == (
        f"model folder {tmp_path}: must hold weights (*.safetensors or *.bin). "
        "Copy the model's .safetensors files there."
    )

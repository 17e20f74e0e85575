"""PEFT is the oracle: formats both ways, the same logits, the same training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
import transformers

from lora_sweep.adapters import AdaptedModel, bias_name, is_bias, read_adapter, save_adapter
from lora_sweep.config import ModelConfig
from lora_sweep.engine.api import EngineOptions
from lora_sweep.engine.engine import Engine
from lora_sweep.errors import AdapterFormatError
from lora_sweep.model_files import load_tokenizer
from lora_sweep.models import FrozenBase, load_base
from lora_sweep.records import AdapterSpec, TrialConfig
from lora_sweep.tasks import EncodedTask, prepare_task

IDS = torch.tensor([[3, 7, 9, 11, 12, 8], [5, 6, 10, 14, 2, 2]])
LABELS = ("negative", "positive")


def base_of(folder: Path, task: str) -> FrozenBase:
    labels = LABELS if task == "classification" else ()
    base = load_base(ModelConfig(name=str(folder), dtype="float32"), task, labels)
    spread_biases(base.model)
    return base


def plain_model(folder: Path, task: str) -> Any:
    if task == "classification":
        model: Any = transformers.AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2)
    else:
        model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    spread_biases(model)
    return model


def spread_biases(model: torch.nn.Module) -> None:
    """Biases by their names, in place of the zeros of a model that was never trained."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(".bias"):
                parameter.normal_(std=0.2, generator=torch.Generator().manual_seed(len(name)))


def randomise(weights: Any) -> None:
    with torch.no_grad():
        for name, parameter in sorted(weights.named.items()):
            parameter.normal_(std=0.2, generator=torch.Generator().manual_seed(len(name)))


CASES = [
    ("bert_dir", "classification", AdapterSpec(rank=4, alpha=8, target_modules=("query", "attention.output.dense"))),
    ("llama_dir", "causal-lm", AdapterSpec(rank=4, alpha=4, target_modules="all-linear")),
    ("llama_dir", "classification", AdapterSpec(rank=2, alpha=8, target_modules="attention")),
    ("gpt2_dir", "causal-lm", AdapterSpec(rank=3, alpha=6, target_modules=("c_attn", "mlp.c_proj"))),
    ("bert_dir", "classification", AdapterSpec(rank=4, target_modules="attention-mlp", bias="lora_only")),
    ("gpt2_dir", "causal-lm", AdapterSpec(rank=3, target_modules=("c_attn", "mlp.c_proj"), bias="lora_only")),
    ("llama_dir", "causal-lm", AdapterSpec(rank=3, target_modules="attention", bias="lora_only")),  # has no biases
    (
        "llama_dir",
        "causal-lm",
        AdapterSpec(
            rank=4,
            target_modules=("q_proj", "v_proj"),
            rank_pattern={"model.layers.0.self_attn.q_proj": 2},
            alpha_pattern={"model.layers.1.self_attn.v_proj": 3.0},
        ),
    ),
]


@pytest.mark.parametrize(("folder", "task", "spec"), CASES)
def test_saved_adapter_gives_the_same_logits_in_peft(
    folder: str, task: str, spec: AdapterSpec, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue(folder)
    base = base_of(path, task)
    adapted = AdaptedModel(base.model, base.trained, base.new, base.called)
    randomise(adapted.add(0, spec, seed=0))
    kind = "SEQ_CLS" if task == "classification" else "CAUSAL_LM"
    save_adapter(adapted, 0, tmp_path / "adapter", str(path), kind)
    assert len({file.stat().st_mode for file in (tmp_path / "adapter").iterdir()}) == 1
    with adapted.routing.whole(0), torch.no_grad():
        ours = adapted.model(input_ids=IDS).logits
    theirs = peft.PeftModel.from_pretrained(plain_model(path, task), tmp_path / "adapter").eval()
    wrapped = {n for n, m in theirs.get_base_model().named_modules() if isinstance(m, peft.tuners.lora.LoraLayer)}
    assert wrapped == set(adapted.targets(spec))
    with torch.no_grad():
        torch.testing.assert_close(ours, theirs(input_ids=IDS).logits, rtol=1e-5, atol=1e-5)

    adapted.merge(0)
    adapted.unwrap().save_pretrained(tmp_path / "merged")
    merged = type(theirs.get_base_model()).from_pretrained(tmp_path / "merged").eval()
    with torch.no_grad():
        torch.testing.assert_close(merged(input_ids=IDS).logits, ours, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("targets", [["q_proj", "v_proj"], "all-linear", r".*\.(up|down)_proj"])
@pytest.mark.parametrize("task", ["classification", "causal-lm"])
def test_adapter_that_peft_wrote_gives_the_same_logits_here(
    targets: Any, task: str, llama_dir: Path, tmp_path: Path
) -> None:
    config = peft.LoraConfig(
        r=4, lora_alpha=6, target_modules=targets, task_type="SEQ_CLS" if task == "classification" else "CAUSAL_LM",
        init_lora_weights=False, rank_pattern={"q_proj": 2}, alpha_pattern={"layers.0.*up_proj": 5},
    )  # fmt: skip
    torch.manual_seed(0)
    theirs = peft.get_peft_model(plain_model(llama_dir, task), config).eval()
    theirs.save_pretrained(tmp_path)
    base = base_of(llama_dir, task)
    adapted = AdaptedModel(base.model, base.trained, base.new, base.called)
    file = read_adapter(tmp_path)
    adapted.load(0, file.spec, file.tensors)
    with adapted.routing.whole(0), torch.no_grad():
        ours = adapted.model(input_ids=IDS).logits
        torch.testing.assert_close(ours, theirs(input_ids=IDS).logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("folder", "task"), [("bert_dir", "classification"), ("gpt2_dir", "causal-lm")])
def test_biases_that_peft_wrote_are_read(
    folder: str, task: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue(folder)
    plain = plain_model(path, task)
    names = {"bert_dir": ["query", "intermediate.dense"], "gpt2_dir": ["c_attn", "c_fc"]}[folder]
    kind = "SEQ_CLS" if task == "classification" else "CAUSAL_LM"
    config = peft.LoraConfig(r=4, target_modules=names, task_type=kind, init_lora_weights=False, bias="lora_only")
    theirs = peft.get_peft_model(plain, config).eval()
    biases = [p for n, p in theirs.named_parameters() if n.endswith("base_layer.bias")]
    assert len(biases) == 4
    with torch.no_grad():
        for bias in biases:
            bias.normal_()
        answers = theirs(input_ids=IDS).logits
    theirs.save_pretrained(tmp_path)
    base = base_of(path, task)
    adapted = AdaptedModel(base.model, base.trained, base.new, base.called)
    file = read_adapter(tmp_path)
    assert file.spec.bias == "lora_only" and sum(map(is_bias, file.tensors)) == 4
    tensors = dict(file.tensors)
    if task == "classification":  # PEFT leaves the pooler, which this checkpoint lacks, where it was
        pooler = plain.get_submodule("bert.pooler.dense")
        tensors |= {f"bert.pooler.dense.{key}": value.detach() for key, value in pooler.named_parameters()}
    adapted.load(0, file.spec, tensors)
    with adapted.routing.whole(0), torch.no_grad():
        torch.testing.assert_close(adapted.model(input_ids=IDS).logits, answers, rtol=1e-5, atol=1e-5)


def test_all_biases_are_refused(bert_dir: Path, tmp_path: Path) -> None:
    model = peft.get_peft_model(plain_model(bert_dir, "classification"), peft.LoraConfig(r=2, bias="all"))
    model.save_pretrained(tmp_path)
    with pytest.raises(AdapterFormatError, match="bias: must be 'none' or 'lora_only': biases of other modules"):
        read_adapter(tmp_path)


def test_adapters_that_cannot_be_used_are_refused(llama_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(AdapterFormatError, match="must be an adapter folder"):
        read_adapter(tmp_path)
    model = peft.get_peft_model(plain_model(llama_dir, "causal-lm"), peft.LoraConfig(r=2, use_dora=True))
    model.save_pretrained(tmp_path)
    with pytest.raises(AdapterFormatError, match="use_dora: must be False"):
        read_adapter(tmp_path)


def classification_task(folder: Path, files: dict[str, Path]) -> tuple[FrozenBase, EncodedTask]:
    from lora_sweep.task_config import TaskConfig

    model = ModelConfig(name=str(folder), dtype="float32")
    data = {part: str(file) for part, file in files.items()}
    config = TaskConfig(type="classification", data=data, text="text", label="label", max_length=32)
    task = prepare_task(config, load_tokenizer(model), seed=0)
    base = load_base(model, "classification", task.labels)
    spread_biases(base.model)
    return base, task


@pytest.mark.parametrize("bias", ["none", "lora_only"])
def test_training_equals_peft_on_the_same_batches(bias: Any, bert_dir: Path, sentiment_files: dict[str, Path]) -> None:
    """Twenty AdamW steps in fp32 without dropout: losses within 1e-5 relative."""
    base, task = classification_task(bert_dir, sentiment_files)
    config = TrialConfig(
        rank=4, alpha=8, target_modules="attention-mlp", learning_rate=5e-3, batch_size=8, steps=20, clip=0.5,
        warmup=0.2, weight_decay=0.01, seed=3, bias=bias,
    )  # fmt: skip
    engine = Engine(base, task, EngineOptions("cpu", 1, 1, "accuracy", "max"))
    slot = engine.open("trial", config)

    theirs = peft.get_peft_model(
        plain_model(bert_dir, "classification"),
        peft.LoraConfig(
            r=4, lora_alpha=8, target_modules=list(engine.adapted.slots[0][1]),
            modules_to_save=["classifier", "bert.pooler.dense"], bias=bias,
        ),
    )  # fmt: skip
    theirs.eval()  # the base's dropout is off here too
    state = {f"base_model.model.{name}": p for name, p in slot.weights.tensors().items()}
    outcome = peft.set_peft_model_state_dict(theirs, state)
    assert not outcome.unexpected_keys
    parameters = [p for p in theirs.parameters() if p.requires_grad]
    assert sum(p.numel() for p in parameters) == slot.weights.size
    optimizer = torch.optim.AdamW(parameters, lr=5e-3, weight_decay=0.01)
    scheduler = transformers.get_linear_schedule_with_warmup(optimizer, 4, 20)
    split = task.splits["train"]
    losses = []
    for step in range(20):
        rows = split.rows(slot.order.at(step), 32, task.pad_id)
        loss = theirs(
            input_ids=torch.from_numpy(rows.token_ids),
            attention_mask=torch.from_numpy(rows.attention_mask),
            labels=torch.from_numpy(rows.labels),
        ).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 0.5)
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
    for _ in range(20):
        engine.train_step([slot])
    ours = torch.stack(slot.losses).numpy()
    assert ours[-1] != pytest.approx(ours[0], rel=1e-3)
    np.testing.assert_allclose(ours, losses, rtol=1e-5)
    moved = {name: p.detach() for name, p in slot.weights.named.items() if is_bias(name)}
    assert len(moved) == (12 if bias == "lora_only" else 0)
    for module, value in ((name.removesuffix(".base_layer.bias"), value) for name, value in moved.items()):
        expected = theirs.get_parameter(f"base_model.model.{bias_name(module)}")
        if not module.endswith("key"):  # attention does not depend on it: its gradient is rounding alone
            torch.testing.assert_close(value, expected.detach(), rtol=1e-4, atol=1e-5)
            assert value.abs().max() > 1e-3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"r": 0}, "rank: input should be greater than or equal to 1, got 0"),
        ({"lora_alpha": "x"}, "alpha: input should be a valid number"),
        ({"alpha_pattern": {"(": 4}}, "alpha_pattern: must hold valid patterns"),
        ({"peft_type": "IA3"}, "peft_type: must be LORA, got 'IA3'"),
        ([], "must hold a JSON object"),
    ],
)
def test_broken_configs_are_told_by_place(change: Any, message: str, llama_dir: Path, tmp_path: Path) -> None:
    import json

    model = peft.get_peft_model(plain_model(llama_dir, "causal-lm"), peft.LoraConfig(r=2))
    model.save_pretrained(tmp_path)
    file = tmp_path / "adapter_config.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | change if isinstance(change, dict) else change))
    with pytest.raises(AdapterFormatError) as error:
        read_adapter(tmp_path)
    assert message in str(error.value)

"""Passes without padding: what they compute is what padded ones do, on every architecture that bears them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import nn

from lora_sweep.config import ModelConfig
from lora_sweep.engine.api import EngineOptions
from lora_sweep.engine.engine import Engine
from lora_sweep.engine.passes import PackRows
from lora_sweep.engine.unpadded import Unpadded
from lora_sweep.engine.unpadding import KNOWN, install_unpadding
from lora_sweep.models import load_base
from lora_sweep.records import TrialConfig
from lora_sweep.tasks import EncodedSplit, EncodedTask

CPU = torch.device("cpu")
PAD = 1
LENGTH = 12
SMALL = {"vocab_size": 32, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
TOKENS = {"pad_token_id": PAD, "bos_token_id": 2, "eos_token_id": 2}
FEW_HEADS = {**SMALL, **TOKENS, "num_key_value_heads": 2}
BOTH_KINDS = ["sliding_attention", "full_attention"]
CONFIGS: dict[str, Callable[[], Any]] = {
    "bert": lambda: transformers.BertConfig(**SMALL, pad_token_id=PAD),
    "roberta": lambda: transformers.RobertaConfig(**SMALL, max_position_embeddings=40, pad_token_id=PAD),
    "electra": lambda: transformers.ElectraConfig(**SMALL, embedding_size=16, pad_token_id=PAD),
    "albert": lambda: transformers.AlbertConfig(**SMALL, embedding_size=16, pad_token_id=PAD),
    "distilbert": lambda: transformers.DistilBertConfig(
        vocab_size=32, dim=32, n_layers=2, n_heads=4, hidden_dim=64, pad_token_id=PAD
    ),
    "modernbert": lambda: transformers.ModernBertConfig(
        **SMALL, **TOKENS, cls_token_id=2, sep_token_id=2, local_attention=4, layer_types=BOTH_KINDS
    ),
    "gpt2": lambda: transformers.GPT2Config(vocab_size=32, n_embd=32, n_layer=2, n_head=4, **TOKENS),
    "llama": lambda: transformers.LlamaConfig(**FEW_HEADS),
    "qwen2": lambda: transformers.Qwen2Config(**FEW_HEADS),
    "mistral": lambda: transformers.MistralConfig(**FEW_HEADS, sliding_window=4),
    "gemma": lambda: transformers.GemmaConfig(**FEW_HEADS, head_dim=8),
    "opt": lambda: transformers.OPTConfig(
        vocab_size=32, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, ffn_dim=64, word_embed_proj_dim=32,
        **TOKENS,
    ),
    "camembert": lambda: transformers.CamembertConfig(**SMALL, max_position_embeddings=40, pad_token_id=PAD),
    "xlm-roberta": lambda: transformers.XLMRobertaConfig(**SMALL, max_position_embeddings=40, pad_token_id=PAD),
    "qwen3": lambda: transformers.Qwen3Config(**FEW_HEADS, head_dim=8),
    "gemma2": lambda: transformers.Gemma2Config(**FEW_HEADS, head_dim=8, sliding_window=4),
    "gemma3_text": lambda: transformers.Gemma3TextConfig(
        **FEW_HEADS, head_dim=8, sliding_window=4, layer_types=BOTH_KINDS
    ),
    "phi3": lambda: transformers.Phi3Config(**FEW_HEADS),
    "granite": lambda: transformers.GraniteConfig(**FEW_HEADS),
    "olmo2": lambda: transformers.Olmo2Config(**FEW_HEADS),
    "smollm3": lambda: transformers.SmolLM3Config(**FEW_HEADS, no_rope_layers=[1, 0]),
    "starcoder2": lambda: transformers.Starcoder2Config(**FEW_HEADS, sliding_window=4),
    "gpt_neox": lambda: transformers.GPTNeoXConfig(**SMALL, **TOKENS),
}  # fmt: skip
READ_FIRST = {"bert", "camembert", "distilbert", "electra", "modernbert", "roberta", "xlm-roberta"}
READ_ALL = {"opt"}  # its feed-forward layers stand in the block itself
DECODERS = KNOWN - READ_FIRST
OFTEN = {"bert", "modernbert", "gpt2", "llama", "gemma2", "opt"}
NO_CLASSIFIERS = {"granite"}


def often(names: Iterable[str]) -> list[Any]:
    """The others are left to the slow tests."""
    return [pytest.param(name, marks=() if name in OFTEN else pytest.mark.slow) for name in sorted(names)]


def task_of(kind: str, lengths: list[int]) -> EncodedTask:
    """Random tokens in rows of these lengths."""
    generator = np.random.default_rng(0)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids, rows = generator.integers(3, 32, offsets[-1], dtype=np.int32), len(lengths)
    labels, scored = np.arange(rows) % 2, np.ones(offsets[-1], dtype=bool)
    scored[offsets[:-1]] = False
    targets = (labels, None) if kind == "classification" else (None, scored)
    split = EncodedSplit("train", ids, offsets, *targets, np.arange(rows).astype(str))
    splits = {name: replace(split, name=name) for name in ("train", "eval", "test")}
    return EncodedTask(kind, splits, ("no", "yes") if kind == "classification" else (), PAD, LENGTH, (LENGTH,), (), {})


def make_engine(
    config: Any, folder: Path, kind: str, lengths: list[int], dtype: str = "float32", **options: Any
) -> Engine:
    torch.manual_seed(0)
    auto = transformers.AutoModel if kind == "classification" else transformers.AutoModelForCausalLM
    auto.from_config(config).save_pretrained(folder)
    base = load_base(ModelConfig(name=str(folder), dtype=dtype), kind, ("no", "yes"))
    return Engine(base, task_of(kind, lengths), EngineOptions("cpu", 4, 1, "loss", "min", 16_384, **options))


def fresh(folder: Path) -> nn.Module:
    """The classifier that an engine was made of."""
    return load_base(ModelConfig(name=str(folder), dtype="float32"), "classification", ("no", "yes")).model


def gradients(engine: Engine, rows: list[list[int]], unpads: bool) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """What three adapters, with dropout and B no longer zero, lose on their rows and learn from them."""
    specs = [{"rank": 3}, {"rank": 5, "alpha": 32, "dropout": 0.0}, {"rank": 2, "target_modules": "attention"}]
    common = {"dropout": 0.3, "target_modules": "all-linear", "steps": 9, "batch_size": 2}
    slots = [engine.open(str(i), TrialConfig(**common | spec, seed=i)) for i, spec in enumerate(specs)]
    for slot in slots:
        noise = torch.randn(len(slot.weights.bank.vector[0]), generator=torch.Generator().manual_seed(slot.number))
        with torch.no_grad():
            for values, added in zip(slot.weights.named.values(), [noise] * 99, strict=False):
                values += 0.05 * added[: values.numel()].view(values.shape)
        slot.weights.refresh()
    runner = engine.runner if unpads else replace(engine.runner, unpads=False, read=None)
    part = PackRows.of([np.array(own) for own in rows])
    nll, _ = runner.train(slots, engine.task.splits["train"], part, LENGTH, np.linspace(0.5, 1.5, len(part.owner)))
    found = [torch.cat([g.flatten() for g in slot.weights.gradients.values()]).clone() for slot in slots]
    for slot in slots:
        engine.close(slot)
    return nll, found


def assert_the_same(engine: Engine, rows: list[list[int]]) -> None:
    (nll, found), (expected_nll, expected) = (gradients(engine, rows, unpads) for unpads in (True, False))
    torch.testing.assert_close(nll, expected_nll, rtol=1e-5, atol=1e-6)
    for ours, padded in zip(found, expected, strict=True):
        assert padded.abs().max() > 0
        torch.testing.assert_close(ours, padded, rtol=1e-4, atol=2e-6 * float(padded.abs().max()))


LENGTHS = [3, 12, 7, 1, 9, 5, 12, 2]
ROWS = [[0, 1, 2], [3, 4], [5, 6, 7, 1]]


@pytest.mark.parametrize("name", often(KNOWN - NO_CLASSIFIERS))
def test_a_classifier_learns_the_same_without_padding(name: str, tmp_path: Path) -> None:
    engine = make_engine(CONFIGS[name](), tmp_path, "classification", LENGTHS)
    read = None if name in READ_ALL else "first" if name in READ_FIRST else "last"
    assert (engine.runner.unpads, engine.runner.read) == (True, read)
    assert_the_same(engine, ROWS)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_text_may_end_with_the_padding_token(name: str, tmp_path: Path) -> None:
    engine = make_engine(CONFIGS[name](), tmp_path, "classification", LENGTHS)
    split = engine.task.splits["train"]
    for row, tokens in ((0, 1), (1, 3), (3, 1)):  # the last one has no other token
        split.token_ids[split.offsets[row + 1] - tokens : split.offsets[row + 1]] = PAD
    assert engine.runner.read == "last"
    assert_the_same(engine, ROWS)


def test_in_bf16_too(tmp_path: Path) -> None:
    engine = make_engine(CONFIGS["bert"](), tmp_path, "classification", LENGTHS, dtype="bfloat16")
    assert (engine.runner.unpads, engine.runner.read) == (True, "first")
    (nll, found), (expected_nll, expected) = (gradients(engine, ROWS, unpads) for unpads in (True, False))
    torch.testing.assert_close(nll, expected_nll, rtol=2e-2, atol=2e-2)
    for ours, padded in zip(found, expected, strict=True):
        assert (ours - padded).norm() < 0.05 * padded.norm()


def test_a_model_that_trains_a_part_of_a_block_in_full_stays_padded(tmp_path: Path) -> None:
    engine = make_engine(CONFIGS["bert"](), tmp_path, "classification", LENGTHS)
    base = replace(engine.base, trained=(*engine.base.trained, "bert.encoder.layer.0.output.LayerNorm"))
    again = Engine(replace(base, model=fresh(tmp_path)), engine.task, engine.options)
    assert not again.runner.unpads
    slot = again.open("0", TrialConfig(steps=9, batch_size=8))
    assert not again.train_step([slot]) and torch.isfinite(slot.losses[0])


@pytest.mark.parametrize("name", often(DECODERS))
def test_a_language_model_learns_the_same_without_padding(name: str, tmp_path: Path) -> None:
    lengths = [max(length, 2) for length in LENGTHS]
    engine = make_engine(CONFIGS[name](), tmp_path, "causal-lm", lengths)
    assert (engine.runner.unpads, engine.runner.read) == (True, None)
    assert_the_same(engine, ROWS)


@pytest.mark.parametrize("options", [{"activation_checkpointing": True}, {"base_dropout": True}])
@pytest.mark.parametrize("name", ["bert", "opt"])
def test_options_of_the_engine_change_nothing(name: str, options: dict[str, bool], tmp_path: Path) -> None:
    assert_the_same(make_engine(CONFIGS[name](), tmp_path, "classification", LENGTHS, **options), ROWS)


@pytest.mark.parametrize("lengths", [[LENGTH] * 8, [11] * 8, [1] * 8])
def test_rows_of_one_length(lengths: list[int], tmp_path: Path) -> None:
    assert_the_same(make_engine(CONFIGS["bert"](), tmp_path, "classification", lengths), ROWS)


@pytest.mark.parametrize("row", [0, 1, 3])
def test_a_single_row(row: int, tmp_path: Path) -> None:
    engine = make_engine(CONFIGS["llama"](), tmp_path, "classification", LENGTHS)
    slot = engine.open("0", TrialConfig(target_modules="all-linear", steps=9))
    part, split = PackRows.of([np.array([row])]), engine.task.splits["train"]
    padded = replace(engine.runner, unpads=False, read=None)
    ours, theirs = (r.evaluate([slot], split, part, LENGTH) for r in (engine.runner, padded))
    torch.testing.assert_close(ours.logits, theirs.logits, rtol=1e-5, atol=1e-6)


def test_answers_of_an_evaluation_are_the_same(tmp_path: Path) -> None:
    engine = make_engine(CONFIGS["bert"](), tmp_path, "classification", LENGTHS)
    slot = engine.open("0", TrialConfig(target_modules="all-linear", steps=9, seed=1))
    ours = engine.evaluate([slot], "eval")[0]
    engine.runner = replace(engine.runner, unpads=False, read=None)
    np.testing.assert_allclose(ours.logits, engine.evaluate([slot], "eval")[0].logits, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["deberta", "albert"])
def test_a_model_with_its_own_attention_or_without_blocks_stays_padded(name: str, tmp_path: Path) -> None:
    config = transformers.DebertaV2Config(
        **SMALL, relative_attention=True, pos_att_type=["p2c", "c2p"], position_buckets=8, max_position_embeddings=40,
        pad_token_id=PAD,
    )  # fmt: skip
    engine = make_engine(config if name == "deberta" else CONFIGS[name](), tmp_path, "classification", LENGTHS)
    assert (engine.runner.unpads, engine.runner.read) == (False, None)
    assert not any(module._forward_pre_hooks for module in engine.base.model.modules())
    slot = engine.open("0", TrialConfig(steps=9, batch_size=8))
    assert not engine.train_step([slot]) and torch.isfinite(slot.losses[0])
    assert engine.padded_tokens == slot.padded_tokens == LENGTH * 8


def test_what_only_looks_like_a_known_architecture_stays_padded(tmp_path: Path) -> None:
    config = CONFIGS["gpt2"]()
    config.reorder_and_upcast_attn = True  # decided by the attention's name
    assert not make_engine(config, tmp_path, "classification", LENGTHS).runner.unpads

    class Own(transformers.BertForSequenceClassification):
        """Code that came with a checkpoint."""

    torch.manual_seed(0)
    assert not install_unpadding(Own(CONFIGS["bert"]()).eval())


def test_padding_is_counted_where_there_is_some(tmp_path: Path) -> None:
    engine = make_engine(CONFIGS["bert"](), tmp_path, "classification", LENGTHS)
    slot = engine.open("0", TrialConfig(steps=9, batch_size=8))
    engine.train_step([slot])
    assert slot.tokens == slot.padded_tokens == engine.tokens == sum(LENGTHS)
    assert engine.padded_tokens == -(-sum(LENGTHS) // 16) * 16


def test_the_last_block_computes_one_token_of_a_row(tmp_path: Path) -> None:
    engine = make_engine(CONFIGS["bert"](), tmp_path, "classification", LENGTHS)
    seen: dict[str, int] = {}
    for name, module in engine.base.model.named_modules():
        if isinstance(module, nn.Linear) and ".layer." in name:
            short = name.partition(".layer.")[2]
            module.register_forward_hook(
                lambda _, inputs, __, short=short: seen.update({short: inputs[0].shape[:-1].numel()})
            )
    slot = engine.open("0", TrialConfig(target_modules=(), steps=9))
    part = PackRows.of([np.arange(len(LENGTHS))])
    engine.runner.evaluate([slot], engine.task.splits["train"], part, LENGTH)
    narrow = {"1.attention.output.dense", "1.intermediate.dense", "1.output.dense"}
    cells = -(-sum(LENGTHS) // 16) * 16
    assert seen == {short: len(LENGTHS) if short in narrow else cells for short in seen}
    assert len(seen) == 12


def test_a_head_that_reads_all_tokens_leaves_the_last_block_whole(tmp_path: Path) -> None:
    config = transformers.ModernBertConfig(**SMALL, **TOKENS, cls_token_id=2, sep_token_id=2, classifier_pooling="mean")
    engine = make_engine(config, tmp_path, "classification", LENGTHS)
    assert (engine.runner.unpads, engine.runner.read) == (True, None)
    assert_the_same(engine, ROWS)


def test_adapters_of_nearly_as_many_tokens_share_a_product(tmp_path: Path) -> None:
    lengths = [12, 12, 12, 11, 11, 12, 12, 12, 1]
    engine = make_engine(CONFIGS["bert"](), tmp_path, "classification", lengths)
    slots = [engine.open(str(i), TrialConfig(rank=4, steps=9, seed=i)) for i in range(2)]
    runner, split = engine.runner, engine.task.splits["train"]
    for rows, equal in (([[0, 1, 2, 3], [4, 5, 6, 7]], True), ([[0, 1, 2, 3], [4, 8]], False)):
        part = PackRows.of([np.array(own) for own in rows])
        segments = [runner._segment(slots[o], part, start, stop) for o, start, stop in part.spans()]
        with engine.adapted.routing.segmented(segments) as route, runner._laid_out(route, split, part, 16):
            assert route.unpadded is not None and route.unpadded.groups(route.parts[0]).equal is equal
            assert all((stop - start) % 16 == 0 for start, stop in route.unpadded.groups(route.parts[0]).spans)


def test_places_and_cells_are_each_others_inverse() -> None:
    lengths, fill = np.array([2, 4, 1]), np.array([0, 3, 0])
    unpadded = Unpadded.of(lengths, 5, fill, CPU, lengths - 1)
    assert unpadded is not None and len(unpadded.tokens) == 10
    padded = torch.arange(15).view(3, 5)
    without = unpadded.without(padded)[0]
    assert without.tolist() == [0, 1, 5, 6, 7, 8, 5, 5, 5, 10]
    back = unpadded.put_back(without.unsqueeze(0))
    assert back.tolist() == [[0, 1, 0, 0, 0], [5, 6, 7, 8, 5], [10, 10, 10, 10, 10]]
    assert unpadded.fills.tolist() == [6, 7, 8] and unpadded.read_cells.tolist() == [1, 5, 9]


def test_nothing_is_left_out_where_it_does_not_pay() -> None:
    assert Unpadded.of(np.array([2, 4]), 4, np.array([0, 2]), CPU) is None

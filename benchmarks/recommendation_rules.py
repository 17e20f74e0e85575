"""Which rule places ranks best where the truth is known: changes of rank 8 planted into two of eight layers.

    python benchmarks/recommendation_rules.py

A uniform trial of rank 2 is trained on a teacher's texts and measured; ranks placed by several rules under its budget
are then trained with two new seeds each. Test losses go to benchmarks/results/recommendation_rules.json.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from lora_sweep.adapters import AdapterFile, read_adapter
from lora_sweep.analysis.allocation import allocate
from lora_sweep.analysis.cut import decompose
from lora_sweep.analysis.gains import LayerEvidence
from lora_sweep.analysis.ranks import with_ranks
from lora_sweep.analysis.recommend import measure_evidence, plan_budget, two_halves
from lora_sweep.analysis.session import AnalysisSession
from lora_sweep.engine.api import EngineOptions
from lora_sweep.engine.engine import Engine
from lora_sweep.engine.report import metrics_of
from lora_sweep.models import load_base
from lora_sweep.preflight import preflight
from lora_sweep.records import TrialConfig
from lora_sweep.store import RunFolder
from lora_sweep.sweep_file import parse_sweep

RESULTS = Path(__file__).parent / "results" / "recommendation_rules.json"
WORDS, LENGTH, RANK, UNIFORM = 48, 16, 8, 2
SEEDS = (11, 12)
CASES = {
    "o_proj, down_proj": (("self_attn.o_proj", "mlp.down_proj"), 1.0),
    "v_proj, up_proj": (("self_attn.v_proj", "mlp.up_proj"), 1.0),
    "q_proj, gate_proj": (("self_attn.q_proj", "mlp.gate_proj"), 2.0),
    "o_proj, gate_proj": (("self_attn.o_proj", "mlp.gate_proj"), 1.0),
}
"""Kinds of layers, of which block 1's first and block 2's second are changed, and by how much of their norm."""


def base_model() -> Any:
    """A small random Llama whose weights are large enough that its answers depend on its inputs."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=WORDS, hidden_size=48, num_hidden_layers=4, num_attention_heads=4, intermediate_size=96,
        max_position_embeddings=64, initializer_range=0.12, tie_word_embeddings=False,
        pad_token_id=0, bos_token_id=None, eos_token_id=2,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        model.lm_head.weight *= 2
    return model


def save_base(model: Any, folder: Path) -> None:
    """The base with a tokenizer of whole words."""
    words = ["[PAD]", "[UNK]", "[EOS]", *(f"w{i}" for i in range(WORDS - 3))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", eos_token="[EOS]")
    model.save_pretrained(folder)
    fast.save_pretrained(folder)


def plant(model: Any, layers: Sequence[str], size: float) -> None:
    """Add random changes of rank RANK, `size` times as large as the weights."""
    rng = torch.Generator().manual_seed(1)
    for name in layers:
        weight = model.get_submodule(name).weight
        u, v = (torch.linalg.qr(torch.randn(side, RANK, generator=rng))[0] for side in weight.shape)
        with torch.no_grad():
            weight += size * weight.norm() / RANK**0.5 * (u @ v.T)


@torch.no_grad()
def write_texts(teacher: Any, file: Path, rows: int, seed: int) -> str:
    """Texts drawn from the teacher, as a jsonl file."""
    rng = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, WORDS, (rows, 1), generator=rng)
    while ids.shape[1] < LENGTH:
        likely = teacher(input_ids=ids).logits[:, -1, 3:].softmax(-1)
        ids = torch.cat([ids, 3 + torch.multinomial(likely, 1, generator=rng)], dim=1)
    file.write_text("".join(json.dumps({"text": " ".join(f"w{i - 3}" for i in row)}) + "\n" for row in ids.tolist()))
    return str(file)


def open_engine(folder: Path, layers: Sequence[str], size: float) -> Engine:
    """The base, with texts of a teacher that differs from it in these layers."""
    model = base_model()
    save_base(model, folder / "model")
    plant(model, layers, size)
    sizes = {"train": 2000, "eval": 300, "test": 600}
    files = {p: write_texts(model, folder / f"{p}.jsonl", n, s) for s, (p, n) in enumerate(sizes.items(), start=1)}
    raw = {
        "model": {"name": str(folder / "model"), "dtype": "float32"},
        "task": {"type": "causal-lm", "text": "text", "max_length": LENGTH, "data": {**files, "holdout": 0.12}},
        "space": "quick",
        "budget": {"steps": 200},
    }
    config = parse_sweep(raw, "case", folder)
    checked = preflight(config, "case")
    base = load_base(config.model, config.task.type, ())
    return Engine(base, checked.task, EngineOptions("cpu", 64, torch.get_num_threads(), "loss", "min"))


def train(engine: Engine, configs: Sequence[TrialConfig], folder: Path) -> list[tuple[float, AdapterFile]]:
    """Test loss and adapter after the last step."""
    slots = [engine.open(str(i), config) for i, config in enumerate(configs)]
    for _ in range(configs[0].steps):
        engine.train_step(slots)
    found = []
    for number, (slot, scores) in enumerate(zip(slots, engine.evaluate(slots, "test"), strict=True)):
        engine.save(slot, folder / f"{number}")
        found.append((metrics_of(engine.task, "test", scores)["loss"], read_adapter(folder / f"{number}")))
        engine.close(slot)
    return found


def gains_by_rule(evidence: Mapping[str, LayerEvidence], energy: Mapping[str, float]) -> dict[str, Any]:
    """What each rule holds the ranks of each layer worth."""

    def squared(level: float, slopes: np.ndarray) -> np.ndarray:
        falls = np.minimum.accumulate(np.maximum(slopes, 0)) ** 2
        return level * falls / max(falls[:UNIFORM].sum(), 1e-30)

    return {
        "slopes at the start alone": {n: np.minimum.accumulate(np.maximum(e.slope, 0)) for n, e in evidence.items()},
        "energy, shaped by slopes": {
            n: np.asarray(LayerEvidence(np.full((1, UNIFORM), energy[n] ** 0.5), e.slopes, e.cost).gains())
            for n, e in evidence.items()
        },
        "level, shaped by slopes squared": {n: squared(e.level, e.slope) for n, e in evidence.items()},
        "level, shaped by slopes": {n: e.gains() for n, e in evidence.items()},
    }


def case(kinds: Sequence[str], size: float, folder: Path) -> dict[str, Any]:
    """Ranks and test losses of every rule in one planted case."""
    layers = [f"model.layers.{block}.{kind}" for block in range(4) for kind in kinds]
    planted = [layers[2], layers[5]]
    engine = open_engine(folder, planted, size)
    first = TrialConfig(
        rank=UNIFORM, alpha=2.0 * UNIFORM, target_modules=tuple(layers), learning_rate=1e-2, batch_size=32, steps=200
    )
    wide = first.model_copy(update={"rank": RANK, "alpha": 2.0 * RANK})
    (_, adapter), (_, wider) = train(engine, [first, wide], folder / "measured")
    run = RunFolder.create(folder / "run")
    run.write_info({"seed": 0})
    session = AnalysisSession(run, engine)
    svds, wide_svds = decompose(adapter), decompose(wider)
    budget = plan_budget(svds, sum(UNIFORM * svd.parameters_per_rank for svd in svds.values()))
    evidence = measure_evidence(session, adapter, svds, UNIFORM, two_halves(session))
    broad = measure_evidence(session, wider, wide_svds, UNIFORM, two_halves(session))
    costs = {name: one.cost for name, one in evidence.items()}
    energy = {name: float((svd.scaling * svd.values).square().sum()) for name, svd in svds.items()}
    ranks = {
        "uniform": dict.fromkeys(svds, UNIFORM),
        **{rule: allocate(gains, costs, budget.parameters) for rule, gains in gains_by_rule(evidence, energy).items()},
        "level of a trial of rank 8": allocate(
            {name: (one.effects**2).mean(axis=0) / 2 for name, one in broad.items()}, costs, budget.parameters
        ),
        "rank 8 where planted": {name: RANK * (name in planted) for name in svds},
    }
    left = budget.parameters - sum(costs.values())
    more = allocate({name: one.gains()[1:] for name, one in evidence.items()}, costs, left)
    ranks["level, shaped by slopes, at least rank 1"] = {name: 1 + rank for name, rank in more.items()}
    scalings = dict.fromkeys(svds, 2.0)
    configs = [with_ranks(first, one, scalings).model_copy(update={"seed": s}) for one in ranks.values() for s in SEEDS]
    losses = [loss for loss, _ in train(engine, configs, folder / "placed")]
    return {
        "planted": planted,
        "rules": {
            rule: {"ranks": dict(one), "test_loss": losses[i * len(SEEDS) : (i + 1) * len(SEEDS)]}
            for i, (rule, one) in enumerate(ranks.items())
        },
    }


def main() -> None:
    """Run all cases and write the results."""
    found = {}
    for name, (kinds, size) in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            found[name] = case(kinds, size, Path(folder))
        for rule, row in found[name]["rules"].items():
            print(f"{name:20} {rule:42} {np.mean(row['test_loss']):.3f} {[round(x, 4) for x in row['test_loss']]}")
    RESULTS.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()

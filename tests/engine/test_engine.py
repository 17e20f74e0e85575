"""The engine against plain transformers and torch: losses, metrics, limits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lora_sweep.engine import engine as module
from lora_sweep.engine.order import DataOrder
from lora_sweep.engine.passes import targets_per_example
from lora_sweep.engine.runner import Runner
from lora_sweep.engine.schedule import learning_rate_at
from lora_sweep.errors import AdapterStateError, InputError, OutOfMemoryError
from lora_sweep.records import TrialConfig


def config(**changes: Any) -> TrialConfig:
    return TrialConfig(**({"rank": 4, "steps": 10, "eval_every": 5, "batch_size": 8} | changes))


def test_causal_loss_is_the_mean_over_scored_tokens_of_the_models_own_logits(language_model: Any) -> None:
    engine = language_model()
    slot = engine.open("a", config(target_modules="all-linear", seed=5))
    split = engine.task.splits["train"]
    examples = slot.order.at(0)
    nll, scored = 0.0, 0
    for example in examples:
        rows = split.rows(np.array([example]), int(split.lengths[example]), 0)
        ids = torch.from_numpy(rows.token_ids)
        with torch.no_grad():
            logits = engine.base.model(input_ids=ids).logits[0]
        for position in np.nonzero(rows.scored[0])[0]:
            nll -= float(logits[position - 1].log_softmax(-1)[ids[0, position]])
            scored += 1
    engine.train_step([slot])
    assert scored == targets_per_example(split)[examples].sum()
    assert float(slot.losses[0]) == pytest.approx(nll / scored, rel=1e-5)  # B = 0: the base's own loss


def test_untouched_base_scores_as_the_plain_model(language_model: Any) -> None:
    engine = language_model()
    before = engine.score(None, "eval")
    slot = engine.open("a", config())
    for _ in range(3):
        engine.train_step([slot])
    np.testing.assert_allclose(engine.score(None, "eval").nll_sum, before.nll_sum, rtol=1e-5)
    assert not np.allclose(engine.evaluate([slot], "eval")[0].nll_sum, before.nll_sum)


def test_saved_adapter_scores_as_its_slot(classifier: Any, tmp_path: Path) -> None:
    engine = classifier()
    slot = engine.open("a", config(dropout=0.1))
    for _ in range(5):
        engine.train_step([slot])
    engine.save(slot, tmp_path / "adapter")
    expected = engine.evaluate([slot], "test")[0].logits
    np.testing.assert_allclose(classifier().score(tmp_path / "adapter", "test").logits, expected, rtol=1e-4, atol=1e-5)


def test_frozen_base_never_changes_nor_gets_gradients(classifier: Any) -> None:
    engine = classifier()
    before = {name: p.clone() for name, p in engine.base.model.named_parameters()}
    slot = engine.open("a", config(target_modules="all-linear"))
    for _ in range(3):
        engine.train_step([slot])
    assert all(p.grad is None for p in engine.base.model.parameters())
    engine.close(slot)
    for name, parameter in engine.base.model.named_parameters():
        assert torch.equal(parameter, before[name.replace(".base.", ".")] if name not in before else before[name])


def test_head_starts_from_the_trials_seed(classifier: Any) -> None:
    heads = []
    for seed in (1, 1, 2):
        engine = classifier()
        torch.manual_seed(len(heads))  # the process's own generator plays no part
        slot = engine.open("a", config(seed=seed))
        heads.append(slot.weights.named["classifier.weight"].detach().clone())
    assert torch.equal(heads[0], heads[1]) and not torch.equal(heads[0], heads[2])


def test_evaluations_on_a_cpu_go_in_small_passes_and_in_smaller_ones_where_memory_ends(
    classifier: Any, monkeypatch: Any
) -> None:
    engine = classifier()
    slots = [engine.open(name, config(seed=ord(name))) for name in "abc"]
    whole = engine.evaluate(slots, "eval")
    seen: list[int] = []
    room, evaluate = 10**9, Runner.evaluate

    def watched(self: Any, slots: Any, split: Any, part: Any, length: int) -> Any:
        seen.append(len(part.owner) * length)
        if seen[-1] > room:
            raise OutOfMemoryError("no room")
        return evaluate(self, slots, split, part, length)

    monkeypatch.setattr(Runner, "evaluate", watched)
    monkeypatch.setattr(module, "_CPU_EVALUATION_TOKENS", 512)
    small = engine.evaluate(slots, "eval")
    assert len(seen) > 3 and 256 < max(seen) <= 512
    room = 100
    seen.clear()
    least = engine.evaluate(slots, "eval")
    assert max(seen) > 256 and seen[-1] <= 100 and engine.tokens_per_pass == 64
    for one, other, third in zip(whole, small, least, strict=True):
        np.testing.assert_allclose(other.logits, one.logits, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(third.logits, one.logits, rtol=1e-4, atol=1e-5)


def test_every_slot_taken_and_nothing_to_train_are_errors(classifier: Any, language_model: Any) -> None:
    engine = classifier(slots=1)
    engine.open("a", config())
    with pytest.raises(AdapterStateError, match="all 1 slots are taken"):
        engine.open("b", config())
    with pytest.raises(InputError, match="must train something"):
        language_model().open("a", config(target_modules=()))


def test_device_seconds_add_up_to_the_engines_time(classifier: Any) -> None:
    engine = classifier()
    slots = [engine.open(str(i), config(rank=2**i, batch_size=2 + i)) for i in range(3)]
    for _ in range(4):
        engine.train_step(slots)
    shares: dict[str, float] = {}
    elapsed = engine.meter.settle(lambda trial, seconds: shares.__setitem__(trial, seconds))
    assert sum(shares.values()) == pytest.approx(elapsed) == pytest.approx(engine.meter.busy_seconds)
    assert shares["2"] > shares["1"] > shares["0"]


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
@pytest.mark.parametrize("warmup", [0.0, 0.13])
def test_schedules_equal_those_of_transformers(schedule: Any, warmup: float) -> None:
    import math

    from transformers import get_scheduler

    trial = config(schedule=schedule, warmup=warmup, steps=30, learning_rate=0.7)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.7)
    name = "constant_with_warmup" if schedule == "constant" else schedule
    theirs = get_scheduler(name, optimizer, math.ceil(warmup * 30), 30)
    for step in range(30):
        assert learning_rate_at(trial, step) == pytest.approx(theirs.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        theirs.step()


def test_data_order_shows_every_example_once_an_epoch_and_can_start_anywhere() -> None:
    order = DataOrder(10, 4, seed=3)
    stream = np.concatenate([order.at(step) for step in range(10)])
    for epoch in range(4):
        assert sorted(stream[epoch * 10 : epoch * 10 + 10]) == list(range(10))
    assert not np.array_equal(stream[:10], stream[10:20])
    assert np.array_equal(DataOrder(10, 4, seed=3).at(7), stream[28:32])
    assert len(DataOrder(3, 8, seed=0).at(0)) == 8


OUT_OF_MEMORY = """
import pickle, resource, sys
sys.path[:0] = [{tests!r}]
import torch
from lora_sweep.config import ModelConfig
from lora_sweep.engine.api import EngineOptions
from lora_sweep.engine.engine import Engine
from lora_sweep.models import load_base
from lora_sweep.records import TrialConfig
task = pickle.load(open({task!r}, "rb"))
base = load_base(ModelConfig(name={model!r}, dtype="float32"), "classification", task.labels)
engine = Engine(base, task, EngineOptions("cpu", 4, 1, "accuracy", "max", tokens_per_pass=10**9))
small = engine.open("small", TrialConfig(rank=2, batch_size=4, steps=5))
engine.train_step([small])
large = engine.open("large", TrialConfig(rank=2, batch_size=60_000, steps=5))
used = int(open("/proc/self/statm").read().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (used + {room}, used + {room}))
failed = engine.train_step([small, large])
print([(slot.trial_id, str(error)[:60]) for slot, error in failed])
print(small.step, large.step, engine.tokens_per_pass, bool(torch.isfinite(small.losses[-1])))
"""


@pytest.mark.slow
def test_passes_shrink_until_they_fit_the_memory(classifier: Any, bert_dir: Path, tmp_path: Path) -> None:
    """A real limit on the address space: 60,000 rows at once do not fit, in smaller passes they do."""
    import pickle

    (tmp_path / "task").write_bytes(pickle.dumps(classifier().task))
    script = OUT_OF_MEMORY.format(
        tests=str(Path(__file__).parents[1]), task=str(tmp_path / "task"), model=str(bert_dir), room=2**30
    )
    # what is freed goes back at once: else what the allocator keeps for itself fills the address space
    allocator = {"MALLOC_MMAP_THRESHOLD_": "1048576", "MALLOC_ARENA_MAX": "1"}
    environment = {**os.environ, **allocator}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    failed, counts = done.stdout.strip().splitlines()
    assert failed == "[]"
    small, large, tokens, finite = counts.split()
    assert (small, large, finite) == ("2", "1", "True") and int(tokens) < 10**8

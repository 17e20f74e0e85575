"""Trials that train biases beside trials that do not: neither depends on the other.

Keys are left out where biases train: attention does not depend on a key's bias, so that its gradient is rounding alone,
which AdamW would scale up to steps.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from lora_sweep.adapters import is_bias
from lora_sweep.engine.engine import Engine
from lora_sweep.engine.slot import Slot
from lora_sweep.records import TrialConfig

TARGETS = ("query", "value", "intermediate.dense", "output.dense")
CONFIGS = [
    {"rank": 2, "target_modules": TARGETS, "bias": "lora_only", "batch_size": 4, "seed": 1},
    {"rank": 4, "target_modules": "all-linear", "dropout": 0.2, "batch_size": 6, "seed": 2},
    {"rank": 1, "target_modules": ("query", "value"), "bias": "lora_only", "dropout": 0.1, "batch_size": 8, "seed": 3,
     "clip": 0.3, "weight_decay": 0.01},
    {"rank": 3, "target_modules": TARGETS, "bias": "none", "batch_size": 4, "seed": 1},
]  # fmt: skip


@pytest.fixture
def biased(classifier: Any) -> Any:
    """Engines on a base whose biases are not zero."""

    def make() -> Engine:
        engine = classifier()
        with torch.no_grad():
            for name, parameter in engine.base.model.named_parameters():
                if name.endswith(".bias"):
                    parameter.normal_(std=0.2, generator=torch.Generator().manual_seed(len(name)))
        return engine

    return make


def config(number: int, **changes: Any) -> TrialConfig:
    return TrialConfig(**({"learning_rate": 5e-3, "steps": 12, "eval_every": 6} | CONFIGS[number] | changes))


def losses(slot: Slot) -> np.ndarray:
    return torch.stack(slot.losses).numpy()


def trained(engine: Engine, numbers: list[int], steps: int = 12, **changes: Any) -> dict[int, Slot]:
    slots = {number: engine.open(str(number), config(number, **changes)) for number in numbers}
    for _ in range(steps):
        engine.train_step(list(slots.values()))
    return slots


def assert_same(ours: Slot, expected: Slot) -> None:
    np.testing.assert_allclose(losses(ours), losses(expected), rtol=1e-6)
    for name, parameter in expected.weights.named.items():
        difference = (ours.weights.named[name] - parameter).norm()
        assert difference <= 1e-5 * parameter.norm() + 1e-12, name


def test_a_pack_equals_solo_runs(biased: Any) -> None:
    engine = biased()
    pack = trained(engine, [0, 1, 2, 3])
    scores = engine.evaluate(list(pack.values()), "eval")
    for number, slot in pack.items():
        other = biased()
        alone = trained(other, [number])[number]
        assert_same(slot, alone)
        expected = other.evaluate([alone], "eval")[0]
        np.testing.assert_allclose(scores[number].nll_sum, expected.nll_sum, rtol=1e-4, atol=1e-5)
    biases = [name for name in pack[0].weights.named if is_bias(name)]
    assert len(biases) == 2 * 5 and not any(map(is_bias, pack[3].weights.named))
    assert losses(pack[0])[-1] != losses(pack[3])[-1]


def test_a_trial_goes_on_elsewhere_with_its_biases(biased: Any) -> None:
    expected = trained(biased(), [0])[0]
    first, second = biased(), biased()
    state = trained(first, [0], steps=5)[0].state()
    second.open("neighbour", config(2))
    moved = second.open("0", config(0), state)
    for _ in range(7):
        second.train_step(list(second.slots.values()))
    np.testing.assert_allclose(losses(moved), losses(expected)[5:], rtol=1e-6)
    for name, parameter in expected.weights.named.items():
        torch.testing.assert_close(moved.weights.named[name], parameter, rtol=1e-4, atol=1e-6)


def test_a_neighbour_that_diverges_changes_nothing(biased: Any) -> None:
    expected, engine = trained(biased(), [0])[0], biased()
    wild = engine.open("wild", config(2, learning_rate=1e30, clip=None, warmup=0.0))
    calm = engine.open("calm", config(0))
    for _ in range(12):
        engine.train_step([wild, calm])
    assert any(parameter.isnan().any() for name, parameter in wild.weights.named.items() if is_bias(name))
    assert_same(calm, expected)


def test_saved_biases_answer_as_in_their_slot(biased: Any, tmp_path: Any) -> None:
    engine = biased()
    slot = trained(engine, [0])[0]
    own = engine.evaluate([slot], "eval")[0]
    engine.save(slot, tmp_path)
    np.testing.assert_allclose(engine.score(tmp_path, "eval").logits, own.logits, rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        for name, parameter in slot.weights.named.items():
            if is_bias(name):
                parameter.zero_()
    assert not np.allclose(engine.evaluate([slot], "eval")[0].logits, own.logits, atol=1e-3)

"""A trial's result does not depend on its company: six that share nothing, to their full budgets.

Random companies are in test_packing.py, poisoned ones in test_isolation.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lora_sweep.errors import InputError
from lora_sweep.records import TrialConfig

MIXED = [
    {"rank": 1, "alpha": 2, "dropout": 0.0, "target_modules": "attention-qv", "learning_rate": 1e-2, "batch_size": 4},
    {"rank": 4, "alpha": 4, "dropout": 0.1, "target_modules": "all-linear", "learning_rate": 5e-3, "batch_size": 8,
     "clip": None, "weight_decay": 0.01},
    {"rank": 8, "alpha": 16, "dropout": 0.05, "target_modules": "mlp", "learning_rate": 3e-3, "batch_size": 16,
     "clip": 0.5},
    {"rank": 16, "alpha": 8, "dropout": 0.3, "target_modules": "attention", "learning_rate": 1e-2, "batch_size": 3,
     "schedule": "cosine"},
    {"rank": 16, "alpha": 32, "dropout": 0.0, "target_modules": "attention", "learning_rate": 2e-3, "batch_size": 8,
     "optimizer": "sgd"},
    {"rank": 2, "alpha": 4, "dropout": 0.5, "target_modules": "attention-mlp", "learning_rate": 1e-2, "batch_size": 5,
     "accumulate": 2, "clip": 0.1},
]  # fmt: skip


FP32 = {"losses": 1e-6, "weights": 1e-5, "moments": 1e-5, "tensor": 1e-5, "scores": 1e-5}


def config(number: int, **changes: Any) -> TrialConfig:
    return TrialConfig(**({"seed": number, "steps": 12, "eval_every": 6} | MIXED[number % 6] | changes))


@pytest.mark.parametrize("kind", ["classifier", "language_model"])
def test_pack_of_six_equals_six_solo_runs(kind: str, solo: Any, trace: Any, request: pytest.FixtureRequest) -> None:
    make = request.getfixturevalue(kind)
    engine = make()
    slots = [engine.open(str(number), config(number)) for number in range(6)]
    for _ in range(12):
        engine.train_step(slots)
    for number, (slot, scores) in enumerate(zip(slots, engine.evaluate(slots, "eval"), strict=True)):
        expected = solo(make, config(number), 12)
        assert expected.losses[-1] != expected.losses[0]
        assert trace.of(slot, scores).drift(expected).within(**FP32)


@pytest.mark.parametrize("kind", ["classifier", "language_model"])
@pytest.mark.parametrize("number", range(6))
def test_resumed_on_another_engine_equals_uninterrupted(
    kind: str, number: int, solo: Any, trace: Any, request: pytest.FixtureRequest
) -> None:
    make = request.getfixturevalue(kind)
    first = make()
    slot = first.open("a", config(number))
    for _ in range(5):
        first.train_step([slot])
    middle, snapshot = trace.losses_of(slot), slot.state()
    second = make()
    second.open("neighbour", config((number + 1) % 6))
    moved = second.open("a", config(number), snapshot)
    for _ in range(7):
        second.train_step(list(second.slots.values()))
    ours = trace.of(moved, second.evaluate([moved], "eval")[0], [middle])
    assert ours.drift(solo(make, config(number), 12)).within(**FP32)


def test_accumulating_equals_one_large_batch(classifier: Any, trace: Any) -> None:
    engine = classifier()
    split = engine.open("split", config(0, batch_size=4, accumulate=3))
    whole = engine.open("whole", config(0, batch_size=12))
    for _ in range(12):
        engine.train_step([split, whole])
    np.testing.assert_allclose(trace.losses_of(split), trace.losses_of(whole), rtol=1e-6)


def test_state_of_another_configuration_is_refused(classifier: Any, solo: Any) -> None:
    state = solo(classifier, config(0), 1).state
    engine = classifier()
    with pytest.raises(InputError, match="same configuration"):
        engine.open("x", config(1), state)
    assert not engine.slots and not engine.adapted.slots


def test_base_dropout_keeps_trials_apart_too(classifier: Any, solo: Any, trace: Any) -> None:
    def run(numbers: list[int]) -> dict[int, np.ndarray]:
        engine = classifier(base_dropout=True)
        slots = {number: engine.open(str(number), config(number)) for number in numbers}
        for _ in range(6):
            engine.train_step(list(slots.values()))
        return {number: trace.losses_of(slot) for number, slot in slots.items()}

    packed, alone = run([0, 1, 2]), run([1])
    np.testing.assert_allclose(packed[1], alone[1], rtol=1e-6)
    without = solo(classifier, config(1), 6)
    assert not np.allclose(without.losses, alone[1], rtol=1e-3)

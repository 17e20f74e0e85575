"""A trial's result does not depend on its company: the invariant that everything else rests on.

Tolerances in fp32 on a CPU: losses 1e-6 relative, weights and moments 1e-5 by the norm of each tensor (docs/design.md).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lora_sweep.engine.api import SlotState
from lora_sweep.engine.engine import Engine
from lora_sweep.engine.slot import Slot
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


def config(number: int, **changes: Any) -> TrialConfig:
    return TrialConfig(**({"seed": number, "steps": 12, "eval_every": 6} | MIXED[number % 6] | changes))


def losses(slot: Slot) -> np.ndarray:
    return torch.stack(slot.losses).numpy()


def solo(make: Any, number: int, steps: int = 12) -> tuple[np.ndarray, SlotState, Slot, Engine]:
    engine = make()
    slot = engine.open("solo", config(number))
    for _ in range(steps):
        engine.train_step([slot])
    return losses(slot), slot.state(), slot, engine


def assert_same_state(ours: SlotState, expected: SlotState, slot: Slot, tolerance: float = 1e-5) -> None:
    """Compare by the norm of each tensor."""
    offset = 0
    for parameter in slot.weights.named.values():
        part = slice(offset, offset + parameter.numel())
        offset = part.stop
        for a, b in [
            (ours.weights, expected.weights),
            *((ours.moments[name], expected.moments[name]) for name in expected.moments),
        ]:
            assert np.linalg.norm(a[part] - b[part]) <= tolerance * np.linalg.norm(b[part]) + 1e-12
    assert ours.moments.keys() == expected.moments.keys()


@pytest.mark.parametrize("kind", ["classifier", "language_model"])
def test_pack_of_six_equals_six_solo_runs(kind: str, request: pytest.FixtureRequest) -> None:
    make = request.getfixturevalue(kind)
    engine = make()
    slots = [engine.open(str(number), config(number)) for number in range(6)]
    for _ in range(12):
        engine.train_step(slots)
    scores = engine.evaluate(slots, "eval")
    for number, slot in enumerate(slots):
        expected, state, alone, other = solo(make, number)
        assert expected[-1] != expected[0]
        np.testing.assert_allclose(losses(slot), expected, rtol=1e-6)
        assert_same_state(slot.state(), state, slot)
        np.testing.assert_allclose(
            scores[number].nll_sum, other.evaluate([alone], "eval")[0].nll_sum, rtol=1e-4, atol=1e-5
        )


@given(st.data())
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_admissions_and_departures_change_nothing(classifier: Any, data: st.DataObject) -> None:
    """A random timetable: trials come late, leave early, and others take over their slots."""
    engine = classifier(slots=4)
    waiting = data.draw(st.permutations(range(6)))
    leaving = {n: data.draw(st.integers(1, 12), label=f"steps of {n}") for n in waiting}
    running: dict[int, Slot] = {}
    finished: dict[int, tuple[np.ndarray, SlotState, Slot]] = {}
    while waiting or running:
        if waiting and (not running or (len(running) < 4 and data.draw(st.booleans()))):
            number = waiting.pop(0)
            running[number] = engine.open(str(number), config(number))
        engine.train_step(list(running.values()))
        for number in [n for n, slot in running.items() if slot.step >= leaving[n]]:
            slot = running.pop(number)
            finished[number] = (losses(slot), slot.state(), slot)
            engine.close(slot)
    for number in data.draw(st.sets(st.sampled_from(range(6)), min_size=2, max_size=2)):
        expected, state, *_ = solo(classifier, number, leaving[number])
        np.testing.assert_allclose(finished[number][0], expected, rtol=1e-6)
        assert_same_state(finished[number][1], state, finished[number][2])


@pytest.mark.parametrize("kind", ["classifier", "language_model"])
@pytest.mark.parametrize("number", range(6))
def test_resumed_on_another_engine_equals_uninterrupted(kind: str, number: int, request: pytest.FixtureRequest) -> None:
    make = request.getfixturevalue(kind)
    expected, state, *_ = solo(make, number)
    first = make()
    slot = first.open("a", config(number))
    for _ in range(5):
        first.train_step([slot])
    middle, snapshot = losses(slot), slot.state()
    second = make()
    second.open("neighbour", config((number + 1) % 6))
    moved = second.open("a", config(number), snapshot)
    for _ in range(7):
        second.train_step(list(second.slots.values()))
    np.testing.assert_allclose(np.concatenate([middle, losses(moved)]), expected, rtol=1e-6)
    assert_same_state(moved.state(), state, moved)


def test_smaller_passes_change_nothing(classifier: Any) -> None:
    expected, state, *_ = solo(classifier, 1)
    engine = classifier(tokens_per_pass=40)
    slots = [engine.open(str(number), config(number)) for number in (0, 1)]
    for _ in range(12):
        engine.train_step(slots)
    np.testing.assert_allclose(losses(slots[1]), expected, rtol=1e-6)
    # sums over rows are taken in another order here, and the rows' gradients at the head's bias nearly cancel
    assert_same_state(slots[1].state(), state, slots[1], 5e-5)


def test_accumulating_equals_one_large_batch(classifier: Any) -> None:
    engine = classifier()
    split = engine.open("split", config(0, batch_size=4, accumulate=3))
    whole = engine.open("whole", config(0, batch_size=12))
    for _ in range(12):
        engine.train_step([split, whole])
    np.testing.assert_allclose(losses(split), losses(whole), rtol=1e-6)


def test_diverging_neighbour_changes_nothing(classifier: Any) -> None:
    """A neighbour at a rate of 1e30 turns to NaN; nothing of it reaches the other, nor the slot's next tenant."""
    expected, state, *_ = solo(classifier, 1)
    engine = classifier(slots=2)
    wild = engine.open("wild", config(2, learning_rate=1e30, clip=None, warmup=0.0))
    calm = engine.open("calm", config(1))
    for _ in range(6):
        engine.train_step([wild, calm])
    assert not np.isfinite(losses(wild)).all()
    engine.close(wild)
    tenant = engine.open("tenant", config(3))
    for _ in range(6):
        engine.train_step([calm, tenant])
    np.testing.assert_allclose(losses(calm), expected, rtol=1e-6)
    assert_same_state(calm.state(), state, calm)
    expected, *_ = solo(classifier, 3, 6)
    np.testing.assert_allclose(losses(tenant), expected, rtol=1e-6)


def test_state_of_another_configuration_is_refused(classifier: Any) -> None:
    from lora_sweep.errors import InputError

    _, state, *_ = solo(classifier, 0, 1)
    engine = classifier()
    with pytest.raises(InputError, match="same configuration"):
        engine.open("x", config(1), state)
    assert not engine.slots and not engine.adapted.slots


def test_bf16_pack_stays_near_solo_runs(classifier: Any) -> None:
    """Products of other shapes round differently in bf16: 2**-8 relative, here over 12 steps on small losses."""
    engine = classifier(dtype="bfloat16")
    slots = [engine.open(str(number), config(number)) for number in range(6)]
    for _ in range(12):
        engine.train_step(slots)
    for number, slot in enumerate(slots):
        other = classifier(dtype="bfloat16")
        alone = other.open("solo", config(number))
        for _ in range(12):
            other.train_step([alone])
        np.testing.assert_allclose(losses(slot), losses(alone), rtol=3e-2)


def test_base_dropout_keeps_trials_apart_too(classifier: Any) -> None:
    def run(numbers: list[int]) -> dict[int, np.ndarray]:
        engine = classifier(base_dropout=True)
        slots = {number: engine.open(str(number), config(number)) for number in numbers}
        for _ in range(6):
            engine.train_step(list(slots.values()))
        return {number: losses(slot) for number, slot in slots.items()}

    packed, alone = run([0, 1, 2]), run([1])
    np.testing.assert_allclose(packed[1], alone[1], rtol=1e-6)
    without, *_ = solo(classifier, 1, 6)
    assert not np.allclose(without, alone[1], rtol=1e-3)

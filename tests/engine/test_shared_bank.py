"""Adapters of different ranks in one bank: the same as alone and unpadded, with gaps between rows and with NaN."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from lora_sweep.adapters import AdaptedModel
from lora_sweep.records import TrialConfig

RANKS = (1, 5, 2, 7, 3)
STEPS = 6


def config(number: int, **changes: Any) -> TrialConfig:
    batch = {"batch_size": 4 + number % 2 * 3} | changes  # of 4 and of 7 rows, or all of one size
    rest = {"dropout": 0.1 * (number % 3), "learning_rate": 1e-2, "warmup": 0.2, "target_modules": "attention"}
    return TrialConfig(rank=RANKS[number], alpha=4.0, seed=number, steps=STEPS, eval_every=STEPS, **rest | batch)


@pytest.fixture
def padded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every rank padded to 8."""
    monkeypatch.setattr(AdaptedModel, "_padded_rank", lambda _self, _rank: 8)


def solo(make: Any, trial: TrialConfig) -> tuple[np.ndarray, np.ndarray]:
    engine = make()
    slot = engine.open("solo", trial)
    for _ in range(STEPS):
        engine.train_step([slot])
    return torch.stack(slot.losses).numpy(), slot.state().weights


@pytest.mark.parametrize("kind", ["classifier", "language_model"])
@pytest.mark.parametrize("changes", [{}, {"batch_size": 4}])
def test_one_bank_equals_solo(
    kind: str, changes: dict[str, Any], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = request.getfixturevalue(kind)
    monkeypatch.setattr(AdaptedModel, "_padded_rank", lambda _self, rank: rank)
    alone = [solo(make, config(number, **changes)) for number in range(len(RANKS))]
    request.getfixturevalue("padded")
    engine = make()
    slots = [engine.open(str(number), config(number, **changes)) for number in range(len(RANKS))]
    assert len({id(slot.weights.bank) for slot in slots}) == 1
    for step in range(STEPS):
        if step == 3:  # one leaves, and its row is a gap
            engine.close(slots.pop(2))
        engine.train_step(slots)
    for slot in slots:
        losses, weights = alone[int(slot.trial_id)]
        np.testing.assert_allclose(torch.stack(slot.losses).numpy(), losses, rtol=1e-6)
        assert np.linalg.norm(slot.state().weights - weights) <= 1e-5 * np.linalg.norm(weights)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_nan_stays_in_its_row(classifier: Any, padded: None, dtype: str) -> None:
    found = []
    for poisoned in (False, True):
        engine = classifier(dtype=dtype)
        slots = [engine.open(str(number), config(number)) for number in range(3)]
        assert len({id(slot.weights.bank) for slot in slots}) == 1
        if poisoned:
            for values in slots[1].weights.named.values():
                values.fill_(float("nan"))
            slots[1].weights.refresh()
        for _ in range(4):
            engine.train_step(slots)
        engine.close(slots[1])
        slots[1] = engine.open("next", config(4))
        for _ in range(2):
            engine.train_step(slots)
        found.append([slot.state().weights for slot in slots])
    for clean, beside in zip(*found, strict=True):
        assert np.isfinite(clean).all() and np.array_equal(clean, beside)

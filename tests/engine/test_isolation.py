"""One adapter that turns to NaN or infinity leaves its neighbours, and the next tenants of its slot, bitwise alone.

The same company trains twice: once with a healthy neighbour, once with that neighbour poisoned. The shapes are equal,
so the others must be too, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from lora_sweep.engine.engine import Engine
from lora_sweep.engine.slot import Slot
from lora_sweep.records import TrialConfig

WILD = {"rank": 8, "alpha": 16, "target_modules": "all-linear", "dropout": 0.1, "batch_size": 6, "seed": 0}
CALM = [
    {"rank": 4, "alpha": 8, "target_modules": "all-linear", "dropout": 0.0, "batch_size": 5, "seed": 1},
    {
        "rank": 16,
        "alpha": 16,
        "target_modules": "attention",
        "dropout": 0.3,
        "batch_size": 3,
        "accumulate": 2,
        "seed": 2,
    },
]
TENANTS = [
    {"rank": 16, "alpha": 16, "target_modules": "all-linear", "dropout": 0.2, "batch_size": 4, "seed": 3},
    {"rank": 2, "alpha": 4, "target_modules": "mlp", "dropout": 0.0, "batch_size": 6, "seed": 4},
]


def config(settings: dict[str, Any], **changes: Any) -> TrialConfig:
    return TrialConfig(**({"learning_rate": 5e-3, "warmup": 0.0, "steps": 12} | settings | changes))


def reopened_with(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Engine], Slot]:
    """A wild trial that goes on from a state whose weights were changed."""

    def opened(engine: Engine) -> Slot:
        slot = engine.open("wild", config(WILD))
        state = slot.state()
        engine.close(slot)
        return engine.open("wild", config(WILD), replace(state, weights=change(state.weights)))

    return opened


POISONS: dict[str, Callable[[Engine], Slot]] = {
    "a rate of 1e30": lambda engine: engine.open("wild", config(WILD, learning_rate=1e30, clip=None)),
    "NaN in its weights": reopened_with(lambda weights: np.full_like(weights, np.nan)),
    "infinity in its weights": reopened_with(lambda weights: np.full_like(weights, np.inf)),
    "weights that overflow": reopened_with(lambda weights: np.full_like(weights, 1e37)),
}


def train_company(engine: Engine, open_wild: Callable[[Engine], Slot], trace: Any) -> tuple[list[Any], list[Any]]:
    """The traces of the calm trials and of the tenants of the wild one's slot, and the wild one's scores."""
    calm = [engine.open("calm 0", config(CALM[0]))]
    wild = open_wild(engine)
    calm.append(engine.open("calm 1", config(CALM[1])))
    together = [calm[0], wild, calm[1]]
    for _ in range(3):
        engine.train_step(together)
    losses = trace.losses_of(wild)
    scores = engine.evaluate(together, "eval")
    number, traces = wild.number, [trace.of(calm[i], scores[2 * i]) for i in (0, 1)]
    engine.close(wild)
    for settings in TENANTS:
        tenant = engine.open("tenant", config(settings))
        assert tenant.number == number
        for _ in range(2):
            engine.train_step([calm[0], tenant, calm[1]])
        scored = engine.evaluate([tenant, *calm], "eval")
        traces.append(trace.of(tenant, scored[0]))
        engine.close(tenant)
    traces += [trace.of(slot, one) for slot, one in zip(calm, scored[1:], strict=True)]
    return traces, [losses, scores[1].nll_sum]


def assert_bitwise(ours: Any, expected: Any) -> None:
    for trace in (ours, expected):
        assert np.isfinite(trace.losses).all() and np.isfinite(trace.state.weights).all()
    np.testing.assert_array_equal(ours.losses, expected.losses)
    np.testing.assert_array_equal(ours.state.weights, expected.state.weights)
    for name, moment in expected.state.moments.items():
        np.testing.assert_array_equal(ours.state.moments[name], moment)
    np.testing.assert_array_equal(ours.scores.nll_sum, expected.scores.nll_sum)


def hold(make: Callable[..., Engine], poison: str, trace: Any, **options: str) -> None:
    healthy, sound = train_company(make(3, **options), lambda engine: engine.open("wild", config(WILD)), trace)
    beside, broken = train_company(make(3, **options), POISONS[poison], trace)
    assert all(np.isfinite(value).all() for value in sound)
    assert not any(np.isfinite(value).all() for value in broken)
    for ours, expected in zip(beside, healthy, strict=True):
        assert_bitwise(ours, expected)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("poison", POISONS)
@pytest.mark.parametrize("kind", ["classifier", "language_model"])
def test_poison_reaches_nobody(kind: str, poison: str, dtype: str, trace: Any, request: pytest.FixtureRequest) -> None:
    hold(request.getfixturevalue(kind), poison, trace, dtype=dtype)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("poison", POISONS)
@pytest.mark.parametrize("kind", ["classifier", "language_model"])
def test_poison_reaches_nobody_on_a_gpu(
    kind: str, poison: str, dtype: str, trace: Any, request: pytest.FixtureRequest
) -> None:
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        hold(request.getfixturevalue(kind), poison, trace, dtype=dtype, device="cuda")
    finally:
        torch.use_deterministic_algorithms(before)


@pytest.mark.parametrize("poison", POISONS)
def test_losses_of_the_others_beside_poison_equal_their_solo_runs(
    classifier: Any, poison: str, trace: Any, solo: Any
) -> None:
    """Not only the same beside health and poison, but right."""
    beside, _ = train_company(classifier(3), POISONS[poison], trace)
    for one, settings in zip(beside[-2:], CALM, strict=True):
        assert one.drift(solo(classifier, config(settings), 7)).losses <= 1e-6

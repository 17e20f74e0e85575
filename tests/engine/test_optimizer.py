"""One step of a pack beside torch's own optimizers, adapter by adapter."""

from __future__ import annotations

import pytest
import torch

from lora_sweep.adapters import AdaptedModel
from lora_sweep.engine.optimizer import optimizer_step, zero_gradients
from lora_sweep.engine.schedule import learning_rate_at
from lora_sweep.records import TrialConfig

STEPS = 5


def configs() -> list[TrialConfig]:
    shared = {"rank": 2, "target_modules": "0", "steps": 8, "warmup": 0.3}
    return [
        TrialConfig(learning_rate=1e-2, weight_decay=0.1, clip=0.5, **shared),
        TrialConfig(learning_rate=3e-3, clip=None, schedule="cosine", **shared),
        TrialConfig(optimizer="sgd", learning_rate=0.5, weight_decay=0.01, clip=1.0, **shared),
        TrialConfig(learning_rate=1e-3, clip=1e-3, **shared),
        TrialConfig(optimizer="sgd", learning_rate=0.1, clip=None, schedule="constant", **shared),
        TrialConfig(rank=3, target_modules="0", steps=8),
    ]


def gradients(size: int, number: int, step: int) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(100 * number + step))


def torchs(config: TrialConfig, values: torch.Tensor, number: int) -> torch.Tensor:
    """The same steps by torch."""
    leaf = values.clone().requires_grad_()
    if config.optimizer == "sgd":
        optimizer = torch.optim.SGD([leaf], lr=1.0, weight_decay=config.weight_decay)
    else:
        optimizer = torch.optim.AdamW([leaf], lr=1.0, weight_decay=config.weight_decay)
    for step in range(STEPS):
        leaf.grad = gradients(leaf.numel(), number, step)
        if config.clip is not None:
            torch.nn.utils.clip_grad_norm_([leaf], config.clip)
        optimizer.param_groups[0]["lr"] = learning_rate_at(config, step)
        optimizer.step()
    return leaf.detach()


@pytest.mark.parametrize("absent", [None, 1, 3])
def test_pack_steps_as_torch_does(absent: int | None) -> None:
    """Rows of a bank need not follow each other, and who does not step stays as it is."""
    adapted = AdaptedModel(torch.nn.Sequential(torch.nn.Linear(12, 20)))
    trials = list(enumerate(configs()))
    pack = [(number, config, adapted.add(number, config, seed=number)) for number, config in trials]
    before = {number: weights.flat(weights.bank.vector) for number, _, weights in pack}
    stepping = [one for one in pack if one[0] != absent]
    for step in range(STEPS):
        zero_gradients([weights for _, _, weights in stepping])
        for number, _, weights in stepping:
            weights.fill(weights.bank.gradient, gradients(weights.size, number, step))
        for _, config, weights in reversed(stepping):
            optimizer_step(weights, config, step)
    for number, config, weights in pack:
        found = weights.flat(weights.bank.vector)
        expected = before[number] if number == absent else torchs(config, before[number], number)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)

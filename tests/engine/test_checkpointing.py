"""Activations computed again in backward: the same training with fewer of them kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from lora_sweep.engine.checkpointing import checkpoint_blocks
from lora_sweep.errors import ModelError
from lora_sweep.records import TrialConfig


def trained(make: Any, **options: Any) -> tuple[np.ndarray, list[np.ndarray], int]:
    """Losses, weights and the bytes that one step keeps for backward."""
    engine = make(**options)
    configs = [TrialConfig(rank=2 + n, dropout=0.1, learning_rate=1e-2, seed=n, steps=4) for n in range(2)]
    slots = [engine.open(str(n), config) for n, config in enumerate(configs)]
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    for _ in range(3):
        engine.train_step(slots)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        engine.train_step(slots)
    losses = torch.stack([torch.stack(slot.losses) for slot in slots]).numpy()
    return losses, [slot.state().weights for slot in slots], sum(kept.values())


@pytest.mark.parametrize("kind", ["classifier", "language_model"])
def test_the_same_training_with_less_kept(kind: str, request: pytest.FixtureRequest) -> None:
    make = request.getfixturevalue(kind)
    losses, weights, kept = trained(make)
    other_losses, other_weights, other_kept = trained(make, activation_checkpointing=True)
    np.testing.assert_allclose(other_losses, losses, rtol=1e-6)
    for ours, theirs in zip(other_weights, weights, strict=True):
        assert np.linalg.norm(ours - theirs) <= 1e-5 * np.linalg.norm(theirs)
    assert other_kept < 0.7 * kept


def test_a_model_without_blocks_is_refused() -> None:
    with pytest.raises(ModelError, match="must have blocks to checkpoint, got 'Linear'"):
        checkpoint_blocks(torch.nn.Linear(2, 2), "x")

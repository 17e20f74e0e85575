"""Gradients without a step: what analyses read through hooks."""

from __future__ import annotations

import numpy as np
import torch

from lora_sweep.engine.engine import Engine
from lora_sweep.engine.passes import PackRows, passes, targets_per_example
from lora_sweep.engine.slot import Slot


def backward_by_example(engine: Engine, slot: Slot, split_name: str, examples: np.ndarray) -> None:
    """Send each example's own mean loss backward through the model, without dropout.

    Rows never meet, so the gradient at a row's activations is that of its own example's loss, whatever the batch.

    Args:
        engine: holds the slot's adapter.
        slot: whose adapter; the gradients of its weights are cleared.
        split_name: a split of the engine's task.
        examples: int64 [n], positions in the split.
    """
    split = engine.task.splits[split_name]
    targets = np.maximum(targets_per_example(split), 1)
    slot.zero_gradient()
    for length, part in passes(engine.task, split, PackRows.of([examples]), engine.tokens_per_pass):
        weights = torch.as_tensor(1 / targets[part.example], dtype=torch.float32, device=engine.base.device)
        outcome = engine._run([slot], split, part, length, weights, dropout=False)
        outcome.total.backward()  # type: ignore[no-untyped-call]
    slot.zero_gradient()

"""Gradients without a step: what analyses read through hooks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from lora_sweep.engine.engine import Engine
from lora_sweep.engine.optimizer import zero_gradients
from lora_sweep.engine.passes import PackRows, passes, targets_per_example
from lora_sweep.engine.slot import Slot

Told = Callable[[np.ndarray, Tensor], None]
"""Hears of a pass before it runs: its examples' positions in the split, int64 [b], and which positions of the padded
rows hold tokens, bool [b, length]."""


def backward_by_example(engine: Engine, slot: Slot, split_name: str, examples: np.ndarray, told: Told) -> None:
    """Send each example's own mean loss backward through the model, without dropout.

    Rows never meet, so the gradient at a row's activations is that of its own example's loss, whatever the batch.

    Args:
        engine: holds the slot's adapter.
        slot: whose adapter; the gradients of its weights are cleared.
        split_name: a split of the engine's task.
        examples: int64 [n], positions in the split.
        told: called before each pass.
    """
    split, device = engine.task.splits[split_name], engine.base.device
    targets = np.maximum(targets_per_example(split), 1)
    zero_gradients([slot.weights])
    for length, part in passes(engine.task, split, PackRows.of([examples]), engine.tokens_per_pass):
        tokens = np.arange(length) < split.lengths[part.example][:, None]
        told(part.example, torch.from_numpy(tokens).to(device))
        engine.runner.differentiate([slot], split, part, length, 1 / targets[part.example])
    zero_gradients([slot.weights])

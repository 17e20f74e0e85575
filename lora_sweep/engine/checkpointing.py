"""Activation checkpointing: a layer's activations are computed again in backward instead of being kept.

Every block of the model keeps its input alone (arXiv 1604.06174): memory falls from all activations to those of one
block, for one more forward pass. Masks of dropout come from counters and are the same the second time.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from lora_sweep.errors import ModelError
from lora_sweep.models import repeated_blocks


def checkpoint_blocks(model: nn.Module, name: str) -> None:
    """Make every repeated block of a model compute its activations again in backward.

    Raises:
        ModelError: the architecture does not say what its blocks are.
    """
    blocks = repeated_blocks(model)
    if not blocks:
        rule = "its architecture must have blocks to checkpoint"
        raise ModelError(f"model {name}", rule, type(model).__name__, "Turn activation_checkpointing off.")
    for block in blocks:
        block.forward = partial(_checkpointed, block.forward)


def _checkpointed(forward: Any, *args: Any, **kwargs: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    # nothing random happens in a block: no generator's state needs keeping
    return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)

"""The base's own dropout on hidden states, off unless asked for.

A frozen base trains best without it, and a shared generator would make a trial depend on its company; so where it is
wanted, each segment draws its masks from its own trial's stream, like LoRA's dropout. Dropout on attention
probabilities, which models apply inside the attention, stays off.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lora_sweep.adapters.dropout import DropoutStream
from lora_sweep.adapters.routing import Routing


class BaseDropout(nn.Module):
    """Stands in for an `nn.Dropout` of the base; input and output [rows, ...].

    Args:
        base: the layer that it replaces.
        name: its full name in the model; part of the dropout stream.
        routing: shared by all modules of the model.
    """

    def __init__(self, base: nn.Dropout, name: str, routing: Routing) -> None:
        super().__init__()
        self.base = base
        self.name = name
        self.routing = routing

    def forward(self, x: Tensor) -> Tensor:
        """Drop where a segment has a stream, that is in training; elsewhere the input as it is."""
        segments = self.routing.of(x)
        if not any(segment.dropout for segment in segments):
            return x
        return torch.cat([self._dropped(x[segment.start : segment.stop], segment.dropout) for segment in segments])

    def _dropped(self, rows: Tensor, stream: DropoutStream | None) -> Tensor:
        if stream is None:
            return rows
        keep = stream.keep_mask(self.name, self.base.p, rows[0].numel()).view(rows.shape)
        return torch.where(keep.to(rows.device), rows, 0) / (1 - self.base.p)

"""The base's own dropout on hidden states, off unless asked for.

A frozen base trains best without it, and a shared generator would make a trial depend on its company; so where it is
wanted, each segment draws its masks from its own trial's stream, like LoRA's dropout. Dropout on attention
probabilities, which models apply inside the attention, stays off.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lora_sweep.adapters.dropout import KeepTable, kept
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
        self._number = routing.number(name, base.p)

    def forward(self, x: Tensor) -> Tensor:
        """Drop where a segment has a stream, that is in training; elsewhere the input as it is."""
        route = self.routing.of(x)
        if route is None or not route.any_streams:
            return x
        tokens = route.tokens(x)
        streams = route.streams[tokens.row]
        tables = torch.where(streams, route.keep.start(self.base.p), route.keep.start(0.0))
        dropped = _Dropped.apply(x, route.keep, route.windows(self._number, tokens) + tables)  # type: ignore[no-untyped-call]
        scale = torch.where(streams, 1 / (1 - self.base.p), 1.0).view(*x.shape[:-1], 1)
        return cast(Tensor, (dropped * scale).to(x.dtype))


class _Dropped(torch.autograd.Function):
    """The same mask forward and backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, keep: KeepTable, starts: Tensor) -> Tensor:
        ctx.keep = keep
        ctx.save_for_backward(starts)
        return kept(x, keep.masks(starts, x.shape[-1]).view(x.shape))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (starts,) = ctx.saved_tensors
        return kept(grad, ctx.keep.masks(starts, grad.shape[-1]).view(grad.shape)), None, None

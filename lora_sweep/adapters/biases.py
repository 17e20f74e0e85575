"""Trained biases: the adapted layers' own, a copy for every adapter that asks for them (PEFT's bias="lora_only").

    h = W0 x + b0 + (alpha / r) B A dropout(x) + (b - b0)

A slot's b starts as the base's b0 and is trained beside A and B, at the same rate. The base computes with b0 for the
whole batch; each segment's rows then get their own b - b0, in fp32 and rounded once. A layer without a bias gets none,
as in PEFT.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lora_sweep.adapters.routing import Segment

if TYPE_CHECKING:
    from lora_sweep.adapters.layer import LoraWeights
    from lora_sweep.adapters.weights import AdapterWeights

_SUFFIX = ".base_layer.bias"


def bias_name(module: str) -> str:
    """The name of a module's trained bias, PEFT's."""
    return module + _SUFFIX


def is_bias(name: str) -> bool:
    """Whether this tensor of an adapter is the trained bias of an adapted layer."""
    return name.endswith(_SUFFIX)


def bias_shapes(layers: Mapping[str, nn.Module]) -> dict[str, tuple[int, ...]]:
    """Name to shape [out] of the biases of these layers, given by their full names; those without one are left out."""
    biases = {name: cast(Tensor | None, layer.bias) for name, layer in layers.items()}
    return {bias_name(name): tuple(bias.shape) for name, bias in biases.items() if bias is not None}


@torch.no_grad()
def initialise_biases(weights: AdapterWeights, layers: Mapping[str, nn.Module]) -> None:
    """Start each trained bias at its layer's own."""
    for name, layer in layers.items():
        if (bias := weights.named.get(bias_name(name))) is not None:
            bias.copy_(cast(Tensor, layer.bias))


def add_biases(out: Tensor, base: nn.Module, parts: Iterable[tuple[Segment, LoraWeights]]) -> Tensor:
    """Add each segment's own bias less the base's to its rows of `out` [rows, ..., out], in place.

    Args:
        out: the output of the layer `base`, its bias included.
        base: the frozen layer.
        parts: segments with the adapters that they belong to; those without a trained bias are passed over.
    """
    own = [(segment, adapter.bias) for segment, adapter in parts if adapter.bias is not None]
    if not own:
        return out
    segments, biases = zip(*own, strict=True)
    return cast(Tensor, _AddedBiases.apply(out, base.bias, segments, *biases))  # type: ignore[no-untyped-call]


class _AddedBiases(torch.autograd.Function):
    """out[segment] += bias - base_bias; the gradient of a bias is the sum over its segment's tokens, in fp32."""

    @staticmethod
    def forward(ctx: Any, out: Tensor, base_bias: Tensor, segments: Sequence[Segment], *biases: Tensor) -> Tensor:
        for segment, bias in zip(segments, biases, strict=True):
            out[segment.start : segment.stop].add_(bias - base_bias)
        ctx.segments = segments
        # not marked dirty: autograd refuses that on another function's view, and nobody keeps what `out` was
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows = (grad[segment.start : segment.stop].flatten(0, -2) for segment in ctx.segments)
        return grad, None, None, *(own.sum(0, dtype=torch.float32) for own in rows)

"""Trained biases: the adapted layers' own, a copy for every adapter that asks for them (PEFT's bias="lora_only").

    h = W0 x + b0 + (alpha / r) B A dropout(x) + (b - b0)

A slot's b starts as the base's b0 and is trained beside A and B, at the same rate. The base computes with b0 for the
whole batch; each adapter's tokens then get their own b - b0, in fp32 and rounded once. A layer without a
bias gets none, as in PEFT.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from lora_sweep.adapters.bank import column
from lora_sweep.adapters.layout import Place
from lora_sweep.adapters.names import bias_name
from lora_sweep.adapters.route import Part
from lora_sweep.adapters.tokens import Groups
from lora_sweep.adapters.weights import AdapterWeights


def bias_shapes(layers: Mapping[str, nn.Module]) -> dict[str, tuple[int, ...]]:
    """Name to shape [out] of the biases of these layers, given by their full names; those without one are left out."""
    biases = {name: cast(Tensor | None, layer.bias) for name, layer in layers.items()}
    return {bias_name(name): tuple(bias.shape) for name, bias in biases.items() if bias is not None}


@torch.no_grad()
def initialise_biases(weights: AdapterWeights, layers: Mapping[str, nn.Module]) -> None:
    """Start each trained bias at its layer's own."""
    named = weights.named
    for name, layer in layers.items():
        if (bias := named.get(bias_name(name))) is not None:
            bias.copy_(cast(Tensor, layer.bias))


def add_biases(out: Tensor, base: nn.Module, part: Part, place: Place, groups: Groups) -> None:
    """Add each adapter's own bias less the base's to its tokens of `out` [tokens, out], in place.

    Args:
        out: the output of the layer `base` for the part's tokens, its bias included.
        base: the frozen layer.
        part: the adapters.
        place: where their matrices of this layer are; without a trained bias nothing happens.
        groups: of the tokens.
    """
    if place.bias is not None:
        own = column(part.bank.vector, place.bias) - cast(Tensor, base.bias)
        out += own[groups.row]


def add_bias_gradients(grad: Tensor, part: Part, place: Place, groups: Groups) -> None:
    """Add up the gradients at the layer's output [tokens, out], in fp32, each adapter's tokens for its own bias."""
    if place.bias is not None:
        column(part.bank.gradient, place.bias).index_add_(0, groups.row, grad.float())

"""The tensors of one adapter: a row of a bank, seen by name."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lora_sweep.adapters.bank import Bank
from lora_sweep.adapters.dropout import stream_key
from lora_sweep.adapters.layout import Layout
from lora_sweep.adapters.names import lora_names


@dataclass(frozen=True)
class AdapterWeights:
    """What one slot trains.

    LoRA matrices are named `MODULE.lora_A.weight` [rank, in] and `MODULE.lora_B.weight` [out, rank], trained biases of
    adapted layers `MODULE.base_layer.bias` [out], parameters of modules that are trained in full by their full names.

    Attributes:
        layout: names and shapes; its bank's may differ in the true ranks.
        bank: where the tensors are.
        row: which of the bank's rows.
    """

    layout: Layout
    bank: Bank
    row: int

    @property
    def size(self) -> int:
        """How many values train."""
        return self.layout.trained

    @property
    def named(self) -> dict[str, Tensor]:
        """Name to weights, views in fp32; `refresh` must follow a change."""
        return self.views(self.bank.vector)

    @property
    def gradients(self) -> dict[str, Tensor]:
        """Name to gradients, views in fp32."""
        return self.views(self.bank.gradient)

    def views(self, tensor: Tensor) -> dict[str, Tensor]:
        """This adapter's part of a tensor of its bank, by name."""
        row, views = tensor[self.row], {}
        for name, entry in self.layout.entries.items():
            whole = row[entry.start : entry.stop].view(entry.padded)
            views[name] = whole[tuple(slice(size) for size in entry.shape)]
        return views

    def flat(self, tensor: Tensor) -> Tensor:
        """This adapter's part of a tensor of its bank, without padding: [size], a copy on the CPU."""
        parts = [view.reshape(-1) for view in self.views(tensor).values()]
        return torch.cat(parts).cpu() if parts else torch.zeros(0)

    @torch.no_grad()
    def fill(self, tensor: Tensor, values: Tensor) -> None:
        """The reverse of `flat`: put values [size] into a tensor of the bank."""
        views = self.views(tensor)
        for view, part in zip(views.values(), torch.split(values, [v.numel() for v in views.values()]), strict=True):
            view.copy_(part.view(view.shape))

    def refresh(self) -> None:
        """Round the weights to the base's dtype again; to be called whenever they have changed."""
        self.bank.refresh(self.row)

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy values in by name; the names must be the same."""
        for name, view in self.named.items():
            view.copy_(tensors[name])
        self.refresh()

    def tensors(self) -> dict[str, Tensor]:
        """Name to values, detached and contiguous, on the CPU."""
        return {name: view.detach().to("cpu", copy=True).contiguous() for name, view in self.named.items()}


@torch.no_grad()
def initialise_lora(weights: AdapterWeights, modules: Iterable[str], seed: int) -> None:
    """A uniform in +-sqrt(1 / in) (Kaiming uniform, a = sqrt 5, as PEFT and the LoRA authors do), B zero.

    Every module draws from its own stream, so that its A depends on the seed and the module's name alone.
    """
    named = weights.named
    for module in modules:
        a, b = (named[name] for name in lora_names(module))
        generator = torch.Generator().manual_seed(stream_key(seed, "lora_A", module) >> 1)
        bound = math.sqrt(1 / a.shape[1])
        a.copy_(torch.empty(a.shape).uniform_(-bound, bound, generator=generator))
        b.zero_()

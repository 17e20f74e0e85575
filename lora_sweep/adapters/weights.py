"""The tensors of one adapter: named parameters that are views into one flat fp32 vector.

One vector makes clipping, optimizer steps and snapshots single operations, whatever the number of layers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lora_sweep.adapters.dropout import stream_key


@dataclass(frozen=True)
class AdapterWeights:
    """What one slot trains.

    Attributes:
        vector: fp32 [n], all parameters one after the other.
        gradient: fp32 [n], their gradients; backward adds to it.
        named: name to parameter, a view into `vector` whose `.grad` is the same view into `gradient`. LoRA matrices
            are named `MODULE.lora_A.weight` [rank, in] and `MODULE.lora_B.weight` [out, rank], trained biases of
            adapted layers `MODULE.base_layer.bias` [out], parameters of modules that are trained in full by their full
            names.
        rounded_vector: [n] in the base's dtype, what products with activations use; `vector` itself for fp32.
        rounded: name to view into `rounded_vector`.
    """

    vector: Tensor
    gradient: Tensor
    named: Mapping[str, nn.Parameter]
    rounded_vector: Tensor
    rounded: Mapping[str, Tensor]

    @classmethod
    def allocate(
        cls, shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype, device: torch.device
    ) -> AdapterWeights:
        """Zeros of the given shapes, for a base of the given dtype."""
        total = sum(math.prod(shape) for shape in shapes.values())
        vector, gradient = torch.zeros(total, device=device), torch.zeros(total, device=device)
        rounded_vector = vector if dtype is torch.float32 else torch.zeros(total, dtype=dtype, device=device)
        named, rounded, offset = {}, {}, 0
        for name, shape in shapes.items():
            part = slice(offset, offset + math.prod(shape))
            parameter = nn.Parameter(vector[part].view(shape))
            parameter.grad = gradient[part].view(shape)
            named[name], rounded[name] = parameter, rounded_vector[part].view(shape)
            offset = part.stop
        return cls(vector, gradient, named, rounded_vector, rounded)

    @torch.no_grad()
    def refresh(self) -> None:
        """Round the weights to the base's dtype again; to be called whenever they have changed."""
        if self.rounded_vector is not self.vector:
            self.rounded_vector.copy_(self.vector)

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy values in by name; the names must be the same."""
        for name, parameter in self.named.items():
            parameter.copy_(tensors[name])
        self.refresh()

    def tensors(self) -> dict[str, Tensor]:
        """Name to values, detached and contiguous, on the CPU."""
        return {name: p.detach().to("cpu", copy=True).contiguous() for name, p in self.named.items()}


def lora_names(module: str) -> tuple[str, str]:
    """The names of a module's A and B."""
    return f"{module}.lora_A.weight", f"{module}.lora_B.weight"


@torch.no_grad()
def initialise_lora(weights: AdapterWeights, modules: Iterable[str], seed: int) -> None:
    """A uniform in +-sqrt(1 / in) (Kaiming uniform, a = sqrt 5, as PEFT and the LoRA authors do), B zero.

    Every module draws from its own stream, so that its A depends on the seed and the module's name alone.
    """
    for module in modules:
        a, b = (weights.named[name] for name in lora_names(module))
        generator = torch.Generator().manual_seed(stream_key(seed, "lora_A", module) >> 1)
        bound = math.sqrt(1 / a.shape[1])
        a.copy_(torch.empty(a.shape).uniform_(-bound, bound, generator=generator))
        b.zero_()

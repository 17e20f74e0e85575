"""The weights of all adapters of equal padded layout: one row each in common tensors.

    vector     row 0 │ A of layer 1 │ B of layer 1 │ A of layer 2 │ ... │ head │      fp32 [capacity, size]
               row 1 │      ...
    gradient, rounded (the base's dtype) and the optimizer's moments alike

A column of rows is a stack of matrices, [adapters, rank, in], which one grouped product takes as it is; rounding,
clipping and the optimizer's step are a few operations on a row, whatever the number of layers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lora_sweep.adapters.layout import Entry, Layout


@dataclass(frozen=True)
class Rows:
    """Some rows of a bank, ascending.

    Attributes:
        numbers: their numbers.
        index: a slice where they follow each other, else int64 [n] on the bank's device.
    """

    numbers: tuple[int, ...]
    index: slice | Tensor


class Bank:
    """Rows of weights, gradients and whatever goes with them.

    Args:
        layout: the first adapter's; `layout.key` is that of every other one too.
        dtype: the base's.
        device: the base's.

    Attributes:
        vector: fp32 [capacity, size], the weights.
        gradient: fp32 [capacity, size]; backward adds to it.
        rounded: [capacity, size] in the base's dtype, what products with activations use; `vector` itself for fp32.
        scaling: fp32 [2, capacity, layers], alpha / rank; the second one also makes up for dropout, times 1 / (1 - p).
        version: changes when the tensors above are other ones.
    """

    def __init__(self, layout: Layout, dtype: torch.dtype, device: torch.device) -> None:
        self.layout, self.device = layout, device
        self.version = 0
        self._free: list[int] = []
        self._extra: dict[str, Tensor] = {}
        self.vector, self.gradient = (torch.zeros((0, layout.size), device=device) for _ in range(2))
        self.rounded = self.vector if dtype is torch.float32 else self.vector.to(dtype)
        self.scaling = torch.ones((2, 0, max(1, len(layout.places))), device=device)

    def take(self) -> int:
        """The number of a row of zeros, the lowest that is free."""
        if not self._free:
            self._grow()
        row = min(self._free)
        self._free.remove(row)
        return row

    def release(self, row: int) -> None:
        """Give a row back; nothing of it is left for the next."""
        for tensor in (self.vector, self.gradient, self.rounded, *self._extra.values()):
            tensor[row].zero_()
        self._free.append(row)

    @property
    def empty(self) -> bool:
        return len(self._free) == len(self.vector)

    def extra(self, name: str) -> Tensor:
        """A further fp32 tensor [capacity, size] of this name, zero at first: an optimizer's moments."""
        if name not in self._extra:
            self._extra[name] = torch.zeros_like(self.vector)
        return self._extra[name]

    def rows(self, numbers: tuple[int, ...]) -> Rows:
        """Rows by their ascending numbers."""
        first = numbers[0]
        if numbers == tuple(range(first, first + len(numbers))):
            return Rows(numbers, slice(first, first + len(numbers)))
        return Rows(numbers, to_device(np.array(numbers), self.device))

    @torch.no_grad()
    def refresh(self, row: int) -> None:
        """Round a row's weights to the base's dtype again; to be called whenever they have changed."""
        if self.rounded is not self.vector:
            self.rounded[row] = self.vector[row]

    def _grow(self) -> None:
        """Double the capacity; when memory runs out on the way, everything is as it was."""
        old, capacity = len(self.vector), max(1, 2 * len(self.vector))
        vector, gradient = (self._grown(tensor, capacity) for tensor in (self.vector, self.gradient))
        rounded = vector if self.rounded is self.vector else self._grown(self.rounded, capacity)
        scaling = self.scaling.new_ones((2, capacity, self.scaling.shape[2]))
        scaling[:, :old] = self.scaling
        extra = {name: self._grown(tensor, capacity) for name, tensor in self._extra.items()}
        self.vector, self.gradient, self.rounded, self.scaling, self._extra = vector, gradient, rounded, scaling, extra
        self._free += range(old, capacity)
        self.version += 1

    def _grown(self, tensor: Tensor, capacity: int) -> Tensor:
        larger = tensor.new_zeros((capacity, self.layout.size))
        larger[: len(tensor)] = tensor
        return larger


def to_device(values: np.ndarray, device: torch.device) -> Tensor:
    """A tensor of these values; the copy to a GPU does not wait for it."""
    tensor = torch.from_numpy(values)
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


def column(tensor: Tensor, entry: Entry) -> Tensor:
    """One tensor of all rows: [capacity, *entry.padded], a view."""
    return tensor[:, entry.start : entry.stop].view(len(tensor), *entry.padded)


def stack(tensor: Tensor, entry: Entry, rows: Rows) -> Tensor:
    """One tensor of some rows: [rows, *entry.padded]; a view where they follow each other."""
    return column(tensor, entry)[rows.index]

"""Where the tensors of one adapter lie in one flat vector."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lora_sweep.adapters.names import bias_name, lora_names

_ALIGNED = 8  # elements: 16 bytes in bf16, which grouped products on a GPU ask for


@dataclass(frozen=True)
class Entry:
    """One tensor of a layout.

    Attributes:
        start: its first element in the vector.
        shape: its true shape.
        padded: the shape that it takes up there; what is beyond `shape` is zero and stays zero.
    """

    start: int
    shape: tuple[int, ...]
    padded: tuple[int, ...]

    @property
    def stop(self) -> int:
        return self.start + math.prod(self.padded)


@dataclass(frozen=True)
class Place:
    """What is trained at one layer: A [rank, in], B [out, rank], perhaps a bias [out].

    Attributes:
        number: counts the layers of the layout.
    """

    number: int
    a: Entry
    b: Entry
    bias: Entry | None


class Layout:
    """The tensors of an adapter, one after the other, ranks padded.

    Args:
        shapes: name to shape of all that the adapter trains.
        modules: full names of the layers that it adapts.
        padded_rank: what a rank is padded to.

    Attributes:
        entries: name to entry, in the order of `shapes`.
        places: full name of an adapted layer to its matrices.
        size: elements of the whole vector; `trained` counts those that are no padding.
    """

    def __init__(
        self, shapes: Mapping[str, tuple[int, ...]], modules: tuple[str, ...], padded_rank: Callable[[int], int]
    ) -> None:
        padded = dict(shapes)
        for name_a, name_b in map(lora_names, modules):
            (rank, size_in), (size_out, _) = shapes[name_a], shapes[name_b]
            padded[name_a], padded[name_b] = (padded_rank(rank), size_in), (size_out, padded_rank(rank))
        self.entries: dict[str, Entry] = {}
        start = 0
        for name, shape in shapes.items():
            self.entries[name] = entry = Entry(start, shape, padded[name])
            start = -(-entry.stop // _ALIGNED) * _ALIGNED
        self.size = start
        self.trained = sum(math.prod(shape) for shape in shapes.values())
        self.places: dict[str, Place] = {}
        for module in modules:
            a, b = (self.entries[name] for name in lora_names(module))
            self.places[module] = Place(len(self.places), a, b, self.entries.get(bias_name(module)))

    @property
    def key(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Equal for layouts that can share a bank."""
        return tuple((name, entry.padded) for name, entry in self.entries.items())

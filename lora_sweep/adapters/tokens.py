"""Which tokens of a batch's rows a module sees, and how they are grouped by adapter.

Most modules see equally many of every row: all of its padded length, or one. In a pass without padding each row has as
many as it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from lora_sweep.adapters.bank import to_device
from lora_sweep.adapters.layout import Place

if TYPE_CHECKING:
    from lora_sweep.adapters.route import Part


class Tokens:
    """The tokens of all rows, one row after the other.

    Args:
        counts: int [rows], how many of each row.
        device: the base's.
        first: int [rows], which one of each row is the first; by default number 0.

    Attributes:
        bounds: int64 [rows + 1], each row's first token, and how many there are.
    """

    def __init__(
        self, counts: Sequence[int] | np.ndarray, device: torch.device, first: np.ndarray | None = None
    ) -> None:
        self._counts, self._device = np.asarray(counts, dtype=np.int64), device
        self.bounds = np.concatenate([[0], np.cumsum(self._counts)])
        self._first = np.zeros_like(self._counts) if first is None else first
        self._groups: dict[Part, Groups] = {}
        self._scales: dict[tuple[Part, int], Tensor] = {}

    def __len__(self) -> int:
        return int(self.bounds[-1])

    @cached_property
    def row(self) -> Tensor:
        """The row of each token: int64 [tokens]."""
        return to_device(np.repeat(np.arange(len(self._counts)), self._counts), self._device)

    @cached_property
    def position(self) -> Tensor:
        """The number of each token within its row: int64 [tokens]."""
        return to_device(np.arange(len(self)) - np.repeat(self.bounds[:-1] - self._first, self._counts), self._device)

    def prepare(self, parts: Sequence[Part]) -> None:
        """Work out now what layers ask for, for a recording, which cannot copy from the host."""
        _ = self.row, self.position
        for part in parts:
            self.groups(part)
            for place in part.bank.layout.places.values():
                self.scale(part, place)

    def groups(self, part: Part) -> Groups:
        """The tokens of a part's adapters."""
        if part not in self._groups:
            edges = self.bounds[[*(member.start for member in part.members), part.stop]]
            counts = np.diff(edges)
            drops = [int(bool(member.dropout)) for member in part.members]
            self._groups[part] = Groups(
                int(edges[0]),
                tuple((edges - edges[0]).tolist()),
                to_device((edges[1:] - edges[0]).astype(np.int32), self._device),
                to_device(np.repeat(part.rows.numbers, counts), self._device),
                to_device(np.repeat(drops, counts), self._device),
            )
        return self._groups[part]

    def scale(self, part: Part, place: Place) -> Tensor:
        """alpha / rank of each token's adapter at a layer, and what makes up for dropout: fp32 [tokens, 1]."""
        key = (part, place.number)
        if key not in self._scales:
            groups = self.groups(part)
            self._scales[key] = part.bank.scaling[..., place.number][groups.drops, groups.row].unsqueeze(1)
        return self._scales[key]


@dataclass(frozen=True)
class Groups:
    """The tokens of a part, one group an adapter.

    Attributes:
        start: the part's first token among all of the batch.
        bounds: where each group begins and the last one ends, within the part.
        ends: the same without the first, int32 on the device.
        row: int64 [tokens], the bank's row of each token's adapter.
        drops: int64 [tokens], 1 where elements may be dropped.
    """

    start: int
    bounds: tuple[int, ...]
    ends: Tensor
    row: Tensor
    drops: Tensor

    @property
    def span(self) -> slice:
        """Where the part's tokens are among all of the batch."""
        return slice(self.start, self.start + self.bounds[-1])

    @cached_property
    def spans(self) -> list[tuple[int, int]]:
        """(first token, last token + 1) of each group, within the part."""
        return list(pairwise(self.bounds))

    @cached_property
    def equal(self) -> bool:
        """Whether all groups have as many tokens; there are several."""
        return len(self.spans) > 1 and len({stop - start for start, stop in self.spans}) == 1

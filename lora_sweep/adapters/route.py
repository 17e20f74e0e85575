"""One way of cutting a batch into adapters, as the layers use it.

Neighbouring adapters that lie in one bank, in ascending rows, form a `Part`: one grouped product serves them. What
does not change from step to step is worked out once; only the keys of the dropout masks do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lora_sweep.adapters.bank import Bank, to_device
from lora_sweep.adapters.dropout import KeepTable, window_starts
from lora_sweep.adapters.tokens import Tokens
from lora_sweep.errors import AdapterStateError

Composition = tuple[tuple[int, int, int, bool], ...]
"""Of each segment: its slot, its first row, its last row + 1, and whether masks are drawn in it."""


@dataclass(frozen=True)
class Member:
    """Rows `start` to `stop` of a batch belong to the adapter in a bank's row; without `dropout` it is off."""

    bank: Bank
    row: int
    start: int
    stop: int
    dropout: float | None


class Part:
    """Members one after the other whose adapters lie in one bank.

    Attributes:
        rows: the bank's, ascending.
        start: first row of the batch; `stop` is the last one + 1.
        drops: whether any element may be dropped here.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        self.bank = members[0].bank
        self.members = members
        self.rows = self.bank.rows(tuple(member.row for member in members))
        self.start, self.stop = members[0].start, members[-1].stop
        self.drops = any(member.dropout for member in members)


class Route:
    """A batch and whose its rows are.

    Args:
        key: what tells it from other routes of the same adapters.
        streams: bool [rows], where masks are drawn.
        members: ascending; rows of none are the base's alone, where nothing is trained in full.
        keep: the masks of all dropouts.
        module_keys: int64 [modules].

    Attributes:
        rows: of the batch.
        streams: as given, on the device; `any_streams` says whether there are any.
        parts: see `Part`.
        row_keys: int64 [rows], what the masks of this step are drawn by.
        unpadded: the tokens that a module sees in this step where padding is left out.
        read: those that it sees where only what is read of a row is computed.
    """

    def __init__(
        self, key: Composition, streams: np.ndarray, members: Sequence[Member], keep: KeepTable, module_keys: Tensor
    ) -> None:
        self.key = key
        self.rows, self.any_streams = len(streams), bool(streams.any())
        self.parts = [Part(run) for run in _runs(members)]
        self._module_keys, device = module_keys, module_keys.device
        self.streams, self.keep = to_device(streams, device), keep
        tables = np.full(self.rows, keep.start(0.0))
        for member in members:
            tables[member.start : member.stop] = keep.start(member.dropout or 0.0)
        self._tables = to_device(tables, device)
        self.row_keys = torch.zeros(self.rows, dtype=torch.int64, device=device)
        self.unpadded: Tokens | None = None
        self.read: Tokens | None = None
        self._uniform: dict[int, Tokens] = {}
        self._starts: dict[Tokens, Tensor] = {}

    def use_row_keys(self, keys: Tensor) -> None:
        """Name the rows of this step, int64 [rows]."""
        self.row_keys = keys
        self._starts.clear()

    def rest(self) -> None:
        """Let go of what belongs to this step alone."""
        self.unpadded = self.read = None
        self._starts.clear()

    def tokens(self, x: Tensor) -> Tokens:
        """The tokens that a module sees in `x`: [rows, ..., features], [rows * length, features], or those of the step.

        Raises:
            AdapterStateError: the first dimension is no multiple of the routed rows.
        """
        seen = x.numel() // x.shape[-1]
        for tokens in (self.unpadded, self.read):
            if tokens is not None and seen == len(tokens):
                return tokens
        if x.shape[0] % self.rows:
            raise AdapterStateError(f"a module got {x.shape[0]} rows of a batch of {self.rows}: it cannot be packed")
        return self.uniform(seen // self.rows)

    def uniform(self, length: int) -> Tokens:
        """So many tokens of every row."""
        if length not in self._uniform:
            self._uniform[length] = Tokens([length] * self.rows, self._module_keys.device)
        return self._uniform[length]

    def windows(self, module: int, tokens: Tokens) -> Tensor:
        """Where the masks of all tokens begin within a table: int64 [tokens]."""
        if tokens not in self._starts:
            self._starts[tokens] = window_starts(self.row_keys[tokens.row], tokens.position, self._module_keys)
        return self._starts[tokens][module]

    def lora_windows(self, module: int, tokens: Tokens) -> Tensor:
        """Where the masks of all tokens begin in `keep`, each in the table of its own adapter's dropout."""
        return self.windows(module, tokens) + self._tables[tokens.row]


def _runs(members: Sequence[Member]) -> Iterator[list[Member]]:
    run: list[Member] = []
    for member in members:
        last = run[-1] if run else member
        if run and not (last.bank is member.bank and last.row < member.row and last.stop == member.start):
            yield run
            run = []
        run.append(member)
    if run:
        yield run

"""Where the tokens of a padded batch stand when padding is left out.

padded     a a a a . │ b b . . . │ c c c c c      [rows, length, ...]
unpadded   a a a a b b c c c c c                  [1, cells, ...]
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lora_sweep.adapters import Route, to_device
from lora_sweep.adapters.tokens import Tokens

Read = Literal["first", "last"]
"""The one token of a row that a classifier's head reads: the first, or the last that is not the padding token."""

_MULTIPLE = 16  # tokens of an adapter
_MOST_FILL = 1 / 16  # of a part's tokens, to make its adapters' groups equal: one product in place of one for each


@dataclass(frozen=True, eq=False)
class Unpadded:
    """Where the tokens of a padded batch stand when padding is left out.

    A cell holds a token; some hold the first one of their row once more, to fill an adapter's tokens up to a round
    number. Nothing comes of them.

    Attributes:
        tokens: the cells of each row.
        rows: of the batch; `length` is their padded one.
        places: int64 [cells], where in the padded batch, [rows * length], a cell is from.
        cells: int64 [rows * length], the cell of every place; the row's first where there is padding.
        padding: int64 [n], the places that are padding.
        fills: int64 [n], the cells that hold no token of their own.
        read: the token of each row that the head reads; None where it may read all.
        read_cells: int64 [rows], their cells; without `read` nobody asks.
        blank: what stands in the last block for what is not read.
    """

    tokens: Tokens
    rows: int
    length: int
    places: Tensor
    cells: Tensor
    padding: Tensor
    fills: Tensor
    read: Tokens | None
    read_cells: Tensor
    blank: float = 0.0
    _by_token: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    @classmethod
    def of(
        cls, lengths: np.ndarray, length: int, fill: np.ndarray, device: torch.device, reads: np.ndarray | None = None
    ) -> Unpadded | None:
        """Lay out a batch.

        Args:
            lengths: int64 [rows], tokens of each row.
            length: the padded one.
            fill: int64 [rows], cells to add to each row.
            device: the model's.
            reads: int64 [rows], the token of each row that the head reads; None where it may read all.

        Returns:
            None where nothing is gained.
        """
        counts = lengths + fill
        if counts.sum() >= len(lengths) * length:
            if reads is None:
                return None
            counts = np.full_like(lengths, length)
        tokens = Tokens(counts, device)
        starts, position = tokens.bounds[:-1], np.arange(length)
        within = np.arange(len(tokens)) - np.repeat(starts, counts)
        is_fill, is_padding = within >= np.repeat(lengths, counts), position >= lengths[:, None]
        places = np.repeat(np.arange(len(lengths)) * length, counts) + np.where(is_fill, 0, within)
        cells = starts[:, None] + np.where(is_padding, 0, position)
        return cls(
            tokens,
            len(lengths),
            length,
            to_device(places, device),
            to_device(cells.ravel(), device),
            to_device(np.nonzero(is_padding.ravel())[0], device),
            to_device(np.nonzero(is_fill)[0], device),
            None if reads is None else Tokens(np.ones_like(lengths), device, reads),
            to_device(starts if reads is None else starts + reads, device),
        )

    def is_padded(self, x: Tensor) -> bool:
        """Whether this is [rows, length, ...]."""
        return x.shape[:2] == (self.rows, self.length)

    def is_unpadded(self, x: Tensor) -> bool:
        """Whether this is [1, cells, ...]."""
        return x.shape[:2] == (1, len(self.tokens))

    def without(self, x: Tensor) -> Tensor:
        """[rows, length, ...] to [1, cells, ...]."""
        flat = x.flatten(0, 1)
        return (flat if self._is_full else _gather(flat, self.places, self.cells, self.padding)).unsqueeze(0)

    def put_back(self, x: Tensor) -> Tensor:
        """[1, cells, ...] to [rows, length, ...]; padding repeats its row's first token."""
        flat = x.squeeze(0)
        return (flat if self._is_full else _gather(flat, self.cells, self.places, self.fills)).view(
            self.rows, self.length, *x.shape[2:]
        )

    def by_token(self, x: Tensor) -> Tensor:
        """`without` for what every block gets alike and nothing is learnt of: [rows or 1, length, ...]."""
        if id(x) not in self._by_token:
            rows = x.expand(self.rows, *x.shape[1:]).flatten(0, 1)
            self._by_token[id(x)] = x, rows.index_select(0, self.places).unsqueeze(0)
        return self._by_token[id(x)][1]

    @contextmanager
    def active(self) -> Iterator[None]:
        """Passes inside the block are made so."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)

    @property
    def _is_full(self) -> bool:
        return not len(self.padding) and not len(self.fills)


_current: ContextVar[Unpadded | None] = ContextVar("unpadded", default=None)


def current() -> Unpadded | None:
    """How the pass that is being made goes without padding; None where it does not."""
    return _current.get()


def fill_up(route: Route, lengths: np.ndarray) -> np.ndarray:
    """The cells that make an adapter's tokens a multiple of 16, and those of a bank equal where they nearly are.

    Few different shapes are few kernels to be made, and pieces of memory that fit again.

    Returns:
        int64 [rows], at the last row of each adapter.
    """
    fill = np.zeros_like(lengths)
    for part in route.parts:
        tokens = np.array([lengths[member.start : member.stop].sum() for member in part.members])
        cells = -(-tokens // _MULTIPLE) * _MULTIPLE
        if (cells.max() - cells).sum() <= _MOST_FILL * cells.sum():
            cells[:] = cells.max()
        fill[[member.stop - 1 for member in part.members]] = cells - tokens
    return fill


def read_tokens(read: Read, token_ids: np.ndarray, pad_id: int) -> np.ndarray:
    """The token of each row that a head reads, as Transformers finds it: int64 [rows].

    Args:
        read: which.
        token_ids: int64 [rows, length], padded on the right.
        pad_id: the padding token; a text may end with it too.
    """
    if read == "first":
        return np.zeros(len(token_ids), dtype=np.int64)
    others = token_ids != pad_id
    return np.where(others.any(axis=1), token_ids.shape[1] - 1 - others[:, ::-1].argmax(axis=1), 0)


def _gather(x: Tensor, index: Tensor, back: Tensor, nothing: Tensor) -> Tensor:
    return cast(Tensor, _Gather.apply(x, index, back, nothing))  # type: ignore[no-untyped-call]


class _Gather(torch.autograd.Function):
    """Rows of `x` by `index`. The gradient's rows come back by `back`, but for those in `nothing`, which get none."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, back: Tensor, nothing: Tensor) -> Tensor:
        ctx.back, ctx.nothing = back, nothing
        return x.index_select(0, index)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return grad.index_select(0, ctx.back).index_fill_(0, ctx.nothing, 0.0), None, None, None

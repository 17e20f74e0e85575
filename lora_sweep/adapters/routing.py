"""Which rows of a batch belong to which adapter.

A batch is cut into segments of whole rows, one after the other; every adapted module reads the same `Routing`, which
the engine sets before a forward pass:

    rows   0 1 2 3 4 5 6 7 8
    slot   2 2 2 2 0 0 0 5 5      Segment(2, 0, 4), Segment(0, 4, 7), Segment(5, 7, 9)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lora_sweep.adapters.bank import Bank, to_device
from lora_sweep.adapters.dropout import DropoutStream, KeepTable, module_key
from lora_sweep.adapters.route import Composition, Member, Route

_ROUTES = 16  # are kept for the steps to come


@dataclass(frozen=True)
class Segment:
    """Rows `start` to `stop` (exclusive) belong to the adapter in `slot`; without `dropout` it is off."""

    slot: int
    start: int
    stop: int
    dropout: DropoutStream | None = None


@dataclass(frozen=True)
class _Seat:
    bank: Bank
    row: int
    dropout: float


class Routing:
    """The segments of the batch that is going through the model; none means: the base alone.

    Args:
        dtype: the base's.
        device: the base's.

    Attributes:
        dtype: as given; `device` too.
        anchor: asks for gradients, so that a layer's backward is called whatever its input.
    """

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self.dtype, self.device = dtype, device
        self.anchor = torch.zeros((), device=device, requires_grad=True)
        self._seats: dict[int, _Seat] = {}
        self._modules: dict[str, int] = {}
        self._base_dropouts: set[float] = set()
        self._keep: KeepTable | None = None
        self._module_keys = torch.zeros(0, dtype=torch.int64, device=device)
        self._routes: dict[Composition, Route] = {}
        self._current: Route | None = None
        self._whole: int | None = None

    # What there is ---------------------------------------------------------------------------------------------

    def seat(self, slot: int, bank: Bank, row: int, dropout: float) -> None:
        """Note where a slot's adapter is, and its dropout in [0, 1)."""
        self._seats[slot] = _Seat(bank, row, dropout)
        self.forget()

    def vacate(self, slot: int) -> None:
        """Forget a slot."""
        del self._seats[slot]
        self.forget()

    def number(self, module: str, dropout: float = 0.0) -> int:
        """The number of a module in the streams of masks; one that drops the same share for all trials says it."""
        if module not in self._modules:
            self._modules[module] = len(self._modules)
            self._module_keys = torch.cat([self._module_keys, module_key(module).to(self.device)])
        self._base_dropouts.add(dropout)
        self.forget()
        return self._modules[module]

    def position(self, slot: int) -> tuple[int, int]:
        """Where a slot stands in a pack: adapters of one bank follow each other, by row."""
        banks = list(dict.fromkeys(id(seat.bank) for seat in self._seats.values()))
        seat = self._seats[slot]
        return banks.index(id(seat.bank)), seat.row

    def forget(self) -> None:
        """Let go of everything that can be worked out again."""
        self._keep = None
        self._routes.clear()

    # The batch -------------------------------------------------------------------------------------------------

    @contextmanager
    def segmented(self, segments: Sequence[Segment]) -> Iterator[Route]:
        """Route the batches inside this block by these segments, of which there is at least one."""
        route = self.route(segments)
        previous, self._current = self._current, route
        try:
            yield route
        finally:
            self._current = previous
            route.rest()

    @contextmanager
    def whole(self, slot: int) -> Iterator[None]:
        """Send every row of the batches inside this block to one slot, without dropout."""
        previous, self._whole = self._whole, slot
        try:
            yield
        finally:
            self._whole = previous

    def of(self, x: Tensor) -> Route | None:
        """The route of `x` [rows, ...]; a module may also see its rows flattened, [rows * length, features]."""
        if self._whole is not None:
            return self.route([Segment(self._whole, 0, x.shape[0])])
        return self._current

    def route(self, segments: Sequence[Segment]) -> Route:
        """The route of some segments, with the masks' keys of this step."""
        key = tuple((s.slot, s.start, s.stop, s.dropout is not None) for s in segments)
        if key not in self._routes:
            if len(self._routes) >= _ROUTES:
                self._routes.clear()
            self._routes[key] = self._new_route(key, segments)
        route = self._routes[key]
        if any(s.dropout for s in segments):
            route.use_row_keys(to_device(_row_keys(segments), self.device))
        return route

    def _new_route(self, key: Composition, segments: Sequence[Segment]) -> Route:
        members = []
        streams = np.zeros(segments[-1].stop, dtype=bool)
        for segment in segments:
            streams[segment.start : segment.stop] = segment.dropout is not None
            if (seat := self._seats.get(segment.slot)) is not None:
                dropout = None if segment.dropout is None else seat.dropout
                members.append(Member(seat.bank, seat.row, segment.start, segment.stop, dropout))
        return Route(key, streams, members, self._keep_table(), self._module_keys)

    def _keep_table(self) -> KeepTable:
        if self._keep is None:
            dropouts = {0.0, *self._base_dropouts, *(seat.dropout for seat in self._seats.values())}
            self._keep = KeepTable(sorted(dropouts), self.dtype, self.device)
        return self._keep


def _row_keys(segments: Sequence[Segment]) -> np.ndarray:
    """int64 [rows]; rows without a stream have a key that nobody reads."""
    nothing = np.zeros(segments[-1].stop, dtype=np.int64)
    for segment in segments:
        if segment.dropout is not None:
            nothing[segment.start : segment.stop] = segment.dropout.row_keys()
    return nothing

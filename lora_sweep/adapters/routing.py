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

from torch import Tensor

from lora_sweep.adapters.dropout import DropoutStream
from lora_sweep.errors import AdapterStateError


@dataclass(frozen=True)
class Segment:
    """Rows `start` to `stop` (exclusive) belong to the adapter in `slot`; without `dropout` it is off."""

    slot: int
    start: int
    stop: int
    dropout: DropoutStream | None = None


class Routing:
    """The segments of the batch that is going through the model; none means: the base alone."""

    def __init__(self) -> None:
        self.segments: tuple[Segment, ...] = ()
        self._whole: int | None = None

    @contextmanager
    def segmented(self, segments: Sequence[Segment]) -> Iterator[None]:
        """Route the batches inside this block by these segments."""
        previous, self.segments = self.segments, tuple(segments)
        try:
            yield
        finally:
            self.segments = previous

    @contextmanager
    def whole(self, slot: int) -> Iterator[None]:
        """Send every row of the batches inside this block to one slot, without dropout."""
        previous, self._whole = self._whole, slot
        try:
            yield
        finally:
            self._whole = previous

    def of(self, x: Tensor) -> tuple[Segment, ...]:
        """The segments of `x`, in rows of its first dimension.

        A module may see its rows flattened, [rows * length, features]; then the segments are stretched.

        Raises:
            AdapterStateError: the first dimension is no multiple of the routed rows.
        """
        if self._whole is not None:
            return (Segment(self._whole, 0, x.shape[0]),)
        if not self.segments:
            return ()
        rows = self.segments[-1].stop
        if x.shape[0] == rows:
            return self.segments
        if x.shape[0] % rows:
            raise AdapterStateError(f"a module got {x.shape[0]} rows of a batch of {rows}: it cannot be packed")
        times = x.shape[0] // rows
        return tuple(
            Segment(s.slot, s.start * times, s.stop * times, s.dropout and s.dropout.stretched(times))
            for s in self.segments
        )

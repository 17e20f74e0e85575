"""Who holds which slot: the broker's table, without Ray and without waiting."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass
class Lease:
    """One trial's right to one slot.

    Attributes:
        epoch: unique and rising, also over restarts of the broker; engines refuse calls of an older epoch.
        trial_id: the holder.
        engine: index of the engine.
        closing: the slot is being closed: not the trial's any more, not yet free.
    """

    epoch: int
    trial_id: str
    engine: int
    closing: bool = False


class LeaseTable:
    """The leases of all engines; every method is immediate.

    Args:
        slots: number of slots of each engine.
    """

    def __init__(self, slots: Sequence[int]) -> None:
        self._slots = list(slots)
        self._usable = [True] * len(slots)
        self._leases: list[Lease] = []
        self._last_epoch = 0

    def grant(self, trial_id: str) -> Lease | None:
        """Lease a slot of the usable engine with most free slots; None when all are taken."""
        free = [self._free(engine) for engine in range(len(self._slots))]
        engine = max(range(len(free)), key=free.__getitem__)
        if free[engine] < 1:
            return None
        lease = Lease(self._next_epoch(), trial_id, engine)
        self._leases.append(lease)
        return lease

    def held_by(self, trial_id: str) -> Lease | None:
        """The trial's live lease."""
        return next((lease for lease in self.live() if lease.trial_id == trial_id), None)

    def live(self) -> list[Lease]:
        """All leases that are not being closed."""
        return [lease for lease in self._leases if not lease.closing]

    def drop(self, lease: Lease) -> None:
        """Forget a lease: its slot is free."""
        self._leases = [other for other in self._leases if other is not lease]

    def is_usable(self, engine: int) -> bool:
        return self._usable[engine]

    def suspend(self, engine: int) -> None:
        """Grant nothing more on this engine until it is heard of again."""
        self._usable[engine] = False

    def resume(self, engine: int) -> None:
        """The engine answers: grant on it again. Trials that lost their slot there report that themselves."""
        self._usable[engine] = True

    def adopt(self, engine: int, held: Mapping[str, int]) -> None:
        """Take over leases that were granted before a restart: `held` maps trial ids to lease epochs."""
        self._leases.extend(Lease(epoch, trial_id, engine) for trial_id, epoch in held.items())

    def _free(self, engine: int) -> int:
        taken = sum(lease.engine == engine for lease in self._leases)
        return self._slots[engine] - taken if self._usable[engine] else 0

    def _next_epoch(self) -> int:
        # the clock keeps epochs rising when the broker was restarted and has forgotten its last one
        self._last_epoch = max(self._last_epoch + 1, time.time_ns())
        return self._last_epoch

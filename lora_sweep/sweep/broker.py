"""The broker: leases the engines' slots to trials in the order in which they ask. Loads without torch.

It runs on one event loop, changes its table without awaiting anything in between, and so needs no lock: no engine can
block it. After a crash of its own it starts again with what the engines hold (`EngineActor.leases`). An engine that
was reported lost gets no more trials until it answers. Each lease ends in one of three ways: the trial or the driver
releases it, the trial reports its engine lost, or the driver no longer runs the trial (`keep`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import ray

from lora_sweep.errors import LoraSweepError
from lora_sweep.sweep.errors import ACTOR_GONE, ACTOR_LOST, EngineLostError
from lora_sweep.sweep.leases import Lease, LeaseTable

logger = logging.getLogger(__name__)

PROBE_SECONDS = 0.5
PROBES = 2400
"""20 minutes: an engine that is restarted loads its base again."""
PROBES_WHEN_DEAD = 20


class Broker:
    """Admission to the engines' slots.

    Args:
        engines: names of the `EngineActor`s; names, because Ray does not keep handles for an actor that it restarts.
        slots: slots of each.
        find: from a name to a handle.
    """

    def __init__(self, engines: Sequence[str], slots: int, find: Callable[[str], Any] = ray.get_actor) -> None:
        self._engines = [find(name) for name in engines]
        self._table = LeaseTable([slots] * len(self._engines))
        self._dead: set[int] = set()
        self._waiting: dict[str, asyncio.Future[Lease]] = {}  # in the order of arrival
        self._missing: set[int] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._started = False

    async def acquire(self, trial_id: str) -> tuple[Any, int]:
        """Wait for a free slot; returns the engine's handle and the epoch of the lease.

        A lease that the same trial still holds is closed: the trial was restarted.

        Raises:
            EngineLostError: no engine is left.
        """
        self._start()
        if old := self._table.held_by(trial_id):
            self._close(old)
        if earlier := self._waiting.pop(trial_id, None):
            earlier.cancel()
        waiter: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()
        self._waiting[trial_id] = waiter
        self._grant()
        lease = await waiter
        return self._engines[lease.engine], lease.epoch

    async def release(self, trial_id: str, epoch: int | None = None) -> None:
        """Close the trial's lease (this one only, when `epoch` is given) and stop waiting for it. Idempotent."""
        self._start()
        lease = self._table.held_by(trial_id)
        if lease and epoch in (None, lease.epoch):
            self._close(lease)
        if epoch is None and (waiter := self._waiting.pop(trial_id, None)):
            waiter.cancel()

    async def lost(self, trial_id: str, epoch: int) -> None:
        """A trial could not reach its engine: drop its lease and ask the engine what it still holds."""
        self._start()
        lease = self._table.held_by(trial_id)
        if lease and lease.epoch == epoch:
            self._table.drop(lease)
            self._suspend(lease.engine)

    async def keep(self, trial_ids: Sequence[str]) -> None:
        """The reaper: close the leases of trials that the driver does not run any more.

        The driver's list may be older than a lease, so only what is missing twice in a row is closed.
        """
        self._start()
        gone = [lease for lease in self._table.live() if lease.trial_id not in trial_ids]
        for lease in gone:
            if lease.epoch in self._missing:
                logger.warning("reaping the lease of trial %s", lease.trial_id)
                self._close(lease)
        self._missing = {lease.epoch for lease in gone}

    async def drain(self) -> None:
        """Close every lease and return when all slots are free."""
        self._start()
        for lease in self._table.live():
            self._close(lease)
        while self._tasks:
            await asyncio.wait(list(self._tasks))

    async def leases(self) -> dict[str, int]:
        """Trial ids to the index of the engine that serves them."""
        return {lease.trial_id: lease.engine for lease in self._table.live()}

    def _start(self) -> None:
        if not self._started:
            self._started = True
            for engine in range(len(self._engines)):
                self._suspend(engine, adopt=True)

    def _grant(self) -> None:
        if len(self._dead) == len(self._engines):
            self._refuse_all()
        for trial_id, waiter in list(self._waiting.items()):
            if waiter.done():
                del self._waiting[trial_id]
                continue
            lease = self._table.grant(trial_id)
            if lease is None:
                return
            del self._waiting[trial_id]
            waiter.set_result(lease)

    def _refuse_all(self) -> None:
        for waiter in self._waiting.values():
            if not waiter.done():
                waiter.set_exception(EngineLostError("every engine has died and could not be restarted"))
        self._waiting.clear()

    def _close(self, lease: Lease) -> None:
        lease.closing = True
        self._spawn(self._close_slot(lease))

    async def _close_slot(self, lease: Lease) -> None:
        try:
            await self._engines[lease.engine].close.remote(lease.trial_id, lease.epoch)
        except ACTOR_LOST:
            self._suspend(lease.engine)
        except LoraSweepError as error:
            logger.warning("closing the slot of trial %s: %s", lease.trial_id, error)
        self._table.drop(lease)
        self._grant()

    def _suspend(self, engine: int, adopt: bool = False) -> None:
        if self._table.is_usable(engine):
            self._table.suspend(engine)
            self._spawn(self._probe(engine, adopt))

    async def _probe(self, engine: int, adopt: bool) -> None:
        held = await self._ask_for_leases(engine)
        if held is None:
            logger.error("engine %d is gone for good", engine)
            self._dead.add(engine)
        else:
            if adopt:
                self._table.adopt(engine, held)
            self._table.resume(engine)
        self._grant()

    async def _ask_for_leases(self, engine: int) -> Mapping[str, int] | None:
        died = 0
        for _ in range(PROBES):
            try:
                held: Mapping[str, int] = await self._engines[engine].leases.remote()
            except ACTOR_LOST as error:
                died = died + 1 if isinstance(error, ACTOR_GONE) else 0
                if died > PROBES_WHEN_DEAD:
                    return None
            except LoraSweepError as error:
                logger.error("engine %d does not start again: %s", engine, error)
                return None
            else:
                return held
            await asyncio.sleep(PROBE_SECONDS)
        return None

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

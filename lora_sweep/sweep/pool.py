"""The engines and the broker of a sweep, at work."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from lora_sweep.engine.api import EngineInfo
from lora_sweep.errors import LoraSweepError
from lora_sweep.sweep.broker import Broker
from lora_sweep.sweep.engines import Engines
from lora_sweep.sweep.errors import ACTOR_GONE, ACTOR_LOST, EngineLostError
from lora_sweep.sweep.order import Order
from lora_sweep.sweep.remote import POLL_SECONDS, fetch

DRAIN_ATTEMPTS = 30
LOSSES_IN_LOADING = 3
"""Times that an engine may die before it stands."""


class Pool:
    """The actors of one sweep; they belong to the driver and die with it.

    Trials may ask for slots before an engine has loaded its base: the broker lets them wait.

    Args:
        engines: those that were started.
        order: what they shall do.
        on_standing: told by `check` or `wait` whenever another engine has loaded the base, what all are that have.

    Attributes:
        broker: handle of the `Broker`.
        most_trials: how many may hold a slot at once.
        slots: of each engine.
    """

    def __init__(self, engines: Engines, order: Order, on_standing: Callable[[list[EngineInfo]], None]) -> None:
        engines.order(order)
        self._engines = engines.handles
        self._loading = {engine.info.remote(): engine for engine in self._engines}
        self._losses = dict.fromkeys(self._engines, 0)
        self._standing: dict[Any, EngineInfo] = {}
        self._reason = ""
        self._on_standing = on_standing
        self.broker = _start_broker(engines.names, order.slots)
        self.slots = order.slots
        self.most_trials = len(self._engines) * order.slots

    def check(self) -> None:
        """Look which engines stand by now, without waiting for any.

        Raises:
            LoraSweepError: one cannot start.
            EngineLostError: none is left.
        """
        self._look(timeout=0)

    def wait(self) -> None:
        """Return when an engine stands; raises as `check`."""
        while not self._standing:
            self._look(timeout=POLL_SECONDS)

    def _look(self, timeout: float) -> None:
        ready, _ = ray.wait(list(self._loading), num_returns=1, timeout=timeout) if self._loading else ([], [])
        for reference in ready:
            engine = self._loading.pop(reference)
            try:
                self._standing[engine] = fetch(reference)
            except ACTOR_LOST as error:
                self._lose(engine, error)
            else:
                self._on_standing(list(self._standing.values()))
        if not self._loading and not self._standing:
            raise EngineLostError(f"every engine died before it had loaded the base (out of memory?): {self._reason}")

    def _lose(self, engine: Any, error: Exception) -> None:
        """Wait for an engine that is started again; miss one that is not, or that dies whenever it loads the base."""
        self._losses[engine] += 1
        self._reason = " ".join(str(error).split())
        if not isinstance(error, ACTOR_GONE) and self._losses[engine] < LOSSES_IN_LOADING:
            self._loading[engine.info.remote()] = engine

    def infos(self) -> list[EngineInfo]:
        """What each reachable engine says of itself; one that does not stand yet is left out."""
        found = []
        for engine in self._standing:
            with suppress(RayError, LoraSweepError):
                found.append(fetch(engine.info.remote()))
        return found

    def any_engine(self) -> Any:
        """The first engine that stood and answers.

        Raises:
            EngineLostError: none does.
        """
        for engine in self._standing:
            with suppress(RayError, LoraSweepError):
                fetch(engine.info.remote())
                return engine
        raise EngineLostError("every engine has died and could not be restarted")

    def drain(self) -> None:
        """Return when no trial holds a slot."""
        for _ in range(DRAIN_ATTEMPTS):
            try:
                fetch(self.broker.drain.remote())
            except ACTOR_LOST:  # it is being restarted
                time.sleep(1)
            else:
                return
        raise EngineLostError("the broker does not answer")

    def stop(self) -> None:
        """End the broker; the engines are ended by whoever started them."""
        with suppress(RayError):
            ray.kill(self.broker)


def _start_broker(engines: Sequence[str], slots: int) -> Any:
    # a broker on another node would take all trials along when that node goes
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor = ray.remote(Broker).options(num_cpus=0, scheduling_strategy=here, max_restarts=-1)
    return actor.remote(engines, slots)

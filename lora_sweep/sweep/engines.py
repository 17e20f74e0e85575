"""The engines of a sweep as Ray actors: they start before it is known what they shall do, and wait for their order."""

from __future__ import annotations

import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from lora_sweep.sweep.actor import EngineActor
from lora_sweep.sweep.layout import Placement, choose_slots, place_engines, read_nodes
from lora_sweep.sweep.order import Order

if TYPE_CHECKING:
    from lora_sweep.config import SweepConfig

RESTARTS = 20
PATIENCE_SECONDS = 180.0
"""An order that an engine has not seen by then is where it cannot see it; network file systems may take a minute."""
THREADS_BESIDE_SLOTS = 16
"""Threads of an engine actor beyond the one that each slot's `run` occupies: for open, close, info."""


@dataclass(frozen=True)
class Engines:
    """The engine actors of one sweep; they belong to the driver and die with it.

    Attributes:
        handles: of `EngineActor`s.
        names: theirs, for `ray.get_actor`.
        placements: where they are.
        order_file: what they wait for.
    """

    handles: tuple[Any, ...]
    names: tuple[str, ...]
    placements: tuple[Placement, ...]
    order_file: Path

    def order(self, order: Order) -> None:
        """Tell them what to do. The file stays while they live: one that is restarted reads it again."""
        self.order_file.parent.mkdir(exist_ok=True)
        for stale in self.order_file.parent.glob("order-*"):  # of a driver that was killed
            stale.unlink(missing_ok=True)
        order.write(self.order_file)

    def stop(self) -> None:
        """End them and remove the file."""
        for handle in self.handles:
            with suppress(RayError):
                ray.kill(handle)
        self.order_file.unlink(missing_ok=True)


def start_engines(config: SweepConfig, run_path: Path, patience: float | None = PATIENCE_SECONDS) -> Engines:
    """Start the engines of a sweep on the cluster that this process is connected to, wherever it has places for them.

    Args:
        config: the sweep; only its resources are looked at.
        run_path: the run folder, which need not be there yet; in a cluster, on a file system that all nodes share.
        patience: for how many seconds they wait for their order; None for ever.

    Raises:
        ConfigError: the cluster does not hold that many engines.
    """
    placements = place_engines(read_nodes(ray.nodes()), config.resources.engines)
    sweep = uuid.uuid4().hex[:8]
    order_file = run_path.resolve() / "tune" / f"order-{sweep}.pkl"
    names = tuple(f"lora-sweep-{sweep}-engine-{number}" for number in range(len(placements)))
    slots = choose_slots(placements, config.resources.slots)
    handles = tuple(
        _start_engine(placement, slots, order_file, name, patience)
        for placement, name in zip(placements, names, strict=True)
    )
    return Engines(handles, names, tuple(placements), order_file)


def _start_engine(placement: Placement, slots: int, order_file: Path, name: str, patience: float | None) -> Any:
    strategy: Any = "DEFAULT"
    if placement.node_id is not None:
        strategy = NodeAffinitySchedulingStrategy(placement.node_id, soft=False)
    actor = ray.remote(EngineActor).options(
        name=name,
        num_cpus=placement.cpus,
        num_gpus=1 if placement.device == "cuda" else 0,
        scheduling_strategy=strategy,
        max_restarts=RESTARTS,
        max_task_retries=0,  # a run that was cut off is resumed from the trial's state, not repeated
        max_concurrency=slots + THREADS_BESIDE_SLOTS,
    )
    return actor.remote(str(order_file), placement, patience)

"""The engines and the broker of a sweep as Ray actors."""

from __future__ import annotations

import logging
import pickle
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from lora_sweep.engine.api import EngineInfo, EngineOptions
from lora_sweep.errors import LoraSweepError
from lora_sweep.store import RunFolder
from lora_sweep.sweep.actor import EngineActor
from lora_sweep.sweep.broker import Broker
from lora_sweep.sweep.errors import ACTOR_LOST, EngineLostError
from lora_sweep.sweep.layout import Placement
from lora_sweep.sweep.remote import fetch

if TYPE_CHECKING:
    from lora_sweep.config import SweepConfig
    from lora_sweep.tasks import EncodedTask

logger = logging.getLogger(__name__)

RESTARTS = 20
DRAIN_ATTEMPTS = 30
THREADS_BESIDE_SLOTS = 16
"""Threads of an engine actor beyond the one that each slot's `run` occupies: for open, close, info."""


@dataclass(frozen=True)
class Pool:
    """The actors of one sweep; they belong to the driver and die with it.

    Attributes:
        engines: handles of `EngineActor`s, all started.
        broker: handle of the `Broker`.
        slots: of each engine.
        task_file: the pickled data, for engines that start and start again.
    """

    engines: tuple[Any, ...]
    broker: Any
    slots: int
    task_file: Path

    def infos(self) -> list[EngineInfo]:
        """What each reachable engine says of itself."""
        found = []
        for engine in self.engines:
            with suppress(RayError, LoraSweepError):
                found.append(fetch(engine.info.remote()))
        return found

    def any_engine(self) -> Any:
        """The first engine that answers.

        Raises:
            EngineLostError: none does.
        """
        for engine in self.engines:
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
        """End the actors and remove the file."""
        for actor in (*self.engines, self.broker):
            with suppress(RayError):
                ray.kill(actor)
        self.task_file.unlink(missing_ok=True)


def start_pool(
    config: SweepConfig, task: EncodedTask, run: RunFolder, placements: Sequence[Placement], slots: int
) -> Pool:
    """Start the engines and wait until each has loaded the base.

    Raises:
        LoraSweepError: an engine cannot start; the pool is stopped again.
    """
    task_file = _write_task(task, run)
    prefix = f"lora-sweep-{uuid.uuid4().hex[:8]}"
    names = [f"{prefix}-engine-{number}" for number in range(len(placements))]
    engines = tuple(
        _start_engine(config, task_file, run, placement, slots, name)
        for placement, name in zip(placements, names, strict=True)
    )
    pool = Pool(engines, _start_broker(f"{prefix}-broker", names, slots), slots, task_file)
    try:
        for engine in engines:
            fetch(engine.info.remote())
    except BaseException:
        pool.stop()
        raise
    return pool


def _write_task(task: EncodedTask, run: RunFolder) -> Path:
    file = run.path.resolve() / "tune" / "task.pkl"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(pickle.dumps(task, protocol=pickle.HIGHEST_PROTOCOL))
    return file


def _start_broker(name: str, engines: Sequence[str], slots: int) -> Any:
    # a broker on another node would take all trials along when that node goes
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor = ray.remote(Broker).options(name=name, num_cpus=0, scheduling_strategy=here, max_restarts=-1)
    return actor.remote(engines, slots)


def _start_engine(
    config: SweepConfig, task_file: Path, run: RunFolder, placement: Placement, slots: int, name: str
) -> Any:
    options = EngineOptions(
        device=placement.device,
        slots=slots,
        threads=placement.threads,
        metric=config.metric.name,
        mode=config.metric.mode,
        keep=config.metric.keep,
        tokens_per_pass=config.resources.tokens_per_pass,
        base_dropout=config.training.base_dropout,
        activation_checkpointing=config.resources.activation_checkpointing,
        cuda_graphs=config.resources.cuda_graphs,
    )
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
    return actor.remote(config.model, str(task_file), options, str(run.path.resolve()))

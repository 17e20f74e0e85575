"""The engine with a pack of equal adapters on it. The only file here that knows what the engine is made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from torch import Tensor

from lora_sweep.engine.api import EngineOptions
from lora_sweep.engine.engine import Engine
from lora_sweep.engine.objective import Batch, Outcome
from lora_sweep.engine.slot import Slot
from lora_sweep.models import FrozenBase
from lora_sweep.records import TrialConfig
from lora_sweep.tasks.encoded import EncodedTask
from packing.timing import Contender

MOST_SLOTS = 64


def make_engine(base: FrozenBase, task: EncodedTask, threads: int) -> Engine:
    """An engine as a sweep makes it."""
    return Engine(base, task, EngineOptions(base.device.type, MOST_SLOTS, threads, "loss", "min"))


def trial_config(rank: int, targets: str, dropout: float, batch: int, seed: int) -> TrialConfig:
    """AdamW with clipping at a constant rate."""
    return TrialConfig(
        rank=rank, alpha=2 * rank, dropout=dropout, target_modules=targets, learning_rate=1e-4, batch_size=batch,
        seed=seed, warmup=0, schedule="constant", steps=1_000_000, eval_every=1_000_000,
    )  # fmt: skip


@contextmanager
def opened(engine: Engine, configs: Sequence[TrialConfig]) -> Iterator[list[Slot]]:
    """Slots for these configurations inside the block.

    Raises:
        OutOfMemoryError: they do not fit.
    """
    slots: list[Slot] = []
    try:
        for number, config in enumerate(configs):
            slots.append(engine.open(f"trial-{number}", config, None))
        yield slots
    finally:
        for slot in slots:
            engine.close(slot)


def packed_step(engine: Engine, slots: Sequence[Slot], same_rows: bool = False) -> Contender:
    """One optimizer step of all slots in one pack.

    Args:
        engine: where they are.
        slots: the pack.
        same_rows: train on the rows of the first step every time.
    """

    def step() -> int:
        before = engine.tokens
        for slot in slots:
            slot.losses.clear()
            if same_rows:
                slot.step = 0
        for _, error in engine.train_step(slots):
            raise error
        return engine.tokens - before

    return step


def step_batches(engine: Engine, slots: Sequence[Slot]) -> list[tuple[Batch, Tensor]]:
    """The batches and row weights that the first step of a pack sends through the base, pass by pass."""
    recorded: list[tuple[Batch, Tensor]] = []
    runner = engine.runner

    def record(batch: Batch, row_weights: Tensor) -> Outcome:
        recorded.append((batch, row_weights))
        return runner.objective(batch, row_weights)

    engine.runner = replace(runner, objective=record)
    try:
        packed_step(engine, slots, same_rows=True)()
    finally:
        engine.runner = runner
    return recorded

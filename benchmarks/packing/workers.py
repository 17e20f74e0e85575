"""PEFT in several processes at once on one device: each trains its own adapter on its own copy of the base.

A pool's processes wait while others are timed, so that they take turns like any contender.
"""

from __future__ import annotations

import os
import time
import traceback
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import torch

from lora_sweep.adapters import resolve_targets
from lora_sweep.engine.allocator import keep_freed_memory
from packing.cells import Cell
from packing.data import synthetic_task
from packing.footprint import device_free, peak
from packing.ours import trial_config
from packing.shapes import SHAPES, build_base
from packing.theirs import peft_step
from packing.timing import Turn, synchronize

_PROCESS_BYTES = 2**30  # context and activations of a small model
_AHEAD = 8  # steps that a process may send to a GPU before it waits


class WorkerFailed(Exception):
    """A process could not train; its text is the process's own traceback."""


class PeftPool:
    """Processes that train one adapter each.

    Args:
        processes: how many.
        cell: what they train.
        device: `cpu` (one thread each) or `cuda`.
        dtype: of the base.
        variant: one of `theirs.variants`.

    Attributes:
        processes: how many they are.
        peaks: bytes, each process's peak in its first steps, as `footprint.peak` has it.
        memory_bytes: of all together: what the device lost to them, contexts and caches included; on a CPU the sum of
            `peaks`, in which shared libraries count once for each process.

    Raises:
        WorkerFailed: a process could not be set up, for want of memory for example.
    """

    def __init__(self, processes: int, cell: Cell, device: str, dtype: torch.dtype, variant: str) -> None:
        context = get_context("spawn")
        self.processes = processes
        self._workers: list[tuple[Any, Connection]] = []
        before = device_free(device)
        try:
            for seed in range(processes):
                ours, theirs = context.Pipe()
                process = context.Process(target=work, args=(theirs, cell, device, dtype, variant, seed), daemon=True)
                process.start()
                theirs.close()
                self._workers.append((process, ours))
            self.peaks: list[int] = [_answer(connection) for _, connection in self._workers]
        except BaseException:
            self.close()
            raise
        after = device_free(device)
        self.memory_bytes = sum(self.peaks) if before is None or after is None else before - after

    def __enter__(self) -> PeftPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def turn(self, seconds: float) -> Turn:
        """Let all of them train for so long, and count the tokens of all.

        Raises:
            WorkerFailed: one of them failed.
        """
        start = time.perf_counter()
        for _, connection in self._workers:
            connection.send(seconds)
        answers = [_answer(connection) for _, connection in self._workers]
        longest = time.perf_counter() - start
        # each by its own clock: who ends late trained more
        rate = sum(tokens / own for _, tokens, own in answers)
        return Turn(sum(calls for calls, _, _ in answers), longest, round(rate * longest))

    def close(self) -> None:
        """End the processes."""
        for process, connection in self._workers:
            connection.close()
            process.join(timeout=5)
            if process.is_alive():
                process.terminate()
                process.join()


def work(connection: Connection, cell: Cell, device: str, dtype: torch.dtype, variant: str, seed: int) -> None:
    """A process of a pool: set up, then train for as long as it is told, until the pipe is closed."""
    try:
        if device == "cpu":
            torch.set_num_threads(1)
            keep_freed_memory()  # for both sides
        base = build_base(cell.model, device, dtype)
        task = synthetic_task(base.task, SHAPES[cell.model].sizes["vocab_size"], cell.length, cell.mixed)
        config = trial_config(cell.rank, cell.targets, cell.dropout, cell.batch, seed)
        targets = resolve_targets(base.model, cell.targets, base.trained, base.called)
        step = peft_step(base, task, config, targets, variant)
        for _ in range(2):
            step()
        synchronize(base.device)
        connection.send(peak(base.device))
        while True:
            seconds = connection.recv()
            calls = tokens = 0
            start = time.perf_counter()
            while time.perf_counter() - start < seconds:
                tokens += step()
                calls += 1
                if calls % _AHEAD == 0:
                    synchronize(base.device)
            synchronize(base.device)
            connection.send((calls, tokens, time.perf_counter() - start))
    except EOFError:
        return
    except BaseException:
        connection.send(WorkerFailed(traceback.format_exc(limit=-3)))


def most_processes(cell: Cell, device: str, dtype: torch.dtype, limit: int) -> int:
    """A first guess at how many fit: one for each core, and on a GPU as many bases as its free memory holds."""
    free = device_free(device)
    most = min(limit, os.cpu_count() or 1)
    if free is None:
        return most
    weights = sum(p.numel() for p in build_base(cell.model, "meta", dtype).model.parameters()) * dtype.itemsize
    return max(1, min(most, int(free / (1.2 * weights + _PROCESS_BYTES))))


def _answer(connection: Connection) -> Any:
    try:
        answer = connection.recv()
    except EOFError:
        raise WorkerFailed("a process died, for want of memory perhaps") from None
    if isinstance(answer, Exception):
        raise answer
    return answer

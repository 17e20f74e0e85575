"""Timing several contenders in turns, so that a machine that drifts drifts for all of them."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

from lora_sweep.engine.memory import as_out_of_memory
from lora_sweep.errors import OutOfMemoryError

LEAST_ROUNDS = 3
MOST_CALLS = 200
WARM_CALLS = {"cpu": 2, "cuda": 5}
"""On a GPU a pass that came three times is recorded at the fourth."""

Contender = Callable[[], int]
"""Does one step and returns the valid tokens that it trained on."""


@dataclass(frozen=True)
class Turn:
    """Some calls of one contender, one after the other."""

    calls: int
    seconds: float
    tokens: int

    @property
    def seconds_per_call(self) -> float:
        return self.seconds / self.calls

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds


@dataclass
class Timed:
    """What came of it.

    Attributes:
        turns: contender to its turns, one for every round.
        failed: contender to why it could not run, or not to the end; only exhausted memory is caught.
    """

    turns: dict[str, list[Turn]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def ratios(self, over: str, under: str, figure: Callable[[Turn], float]) -> list[float]:
        """`figure` of one contender over that of another, round by round."""
        return [figure(a) / figure(b) for a, b in zip(self.turns[over], self.turns[under], strict=True)]


def interleave(
    contenders: Mapping[str, Contender], device: torch.device, seconds_per_turn: float, rounds: int, deadline: float
) -> Timed:
    """Let contenders take turns, every other round in reverse order.

    Args:
        contenders: by name; each is called a few times before anything is timed.
        device: synchronised around each turn.
        seconds_per_turn: a turn has as many calls as fill it, at least one.
        rounds: turns of each; at least three, fewer than asked for once `deadline` has passed.
        deadline: on the monotonic clock.
    """
    timed = Timed()
    calls: dict[str, int] = {}
    for name, run in contenders.items():
        try:
            with as_out_of_memory(name):
                for _ in range(WARM_CALLS[device.type]):
                    once = _turn(run, 1, device).seconds
        except OutOfMemoryError as error:
            timed.failed[name] = str(error)
            free(device)
            continue
        calls[name] = max(1, min(MOST_CALLS, math.ceil(seconds_per_turn / once)))
        timed.turns[name] = []
    gc.collect()
    for number in range(rounds):
        if number >= LEAST_ROUNDS and time.monotonic() > deadline:
            break
        for name in list(calls) if number % 2 == 0 else list(reversed(calls)):
            try:
                with as_out_of_memory(name):
                    timed.turns[name].append(_turn(contenders[name], calls[name], device))
            except OutOfMemoryError as error:
                timed.failed[name] = str(error)
                del calls[name], timed.turns[name]
                free(device)
    return timed


def free(device: torch.device) -> None:
    """Give memory that nobody uses back to the device."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def synchronize(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _turn(run: Contender, calls: int, device: torch.device) -> Turn:
    synchronize(device)
    start = time.perf_counter()
    tokens = sum(run() for _ in range(calls))
    synchronize(device)
    return Turn(calls, time.perf_counter() - start, tokens)

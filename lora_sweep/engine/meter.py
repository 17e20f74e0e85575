"""Whose time was it? An engine's busy time, shared among the trials of a pack by their FLOPs.

Estimated FLOPs of one padded token: 2 for every parameter of the base's linear layers in the forward pass, the same
again in backward where gradients must go through the base, and 6 for every LoRA parameter (arXiv 2001.08361, section
2.1: 2 forward, 4 backward). The estimate only divides a measured time, so that its scale does not matter.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable

import torch


class Meter:
    """Collects FLOPs by trial and divides the elapsed device time by them when it is settled.

    Args:
        device: synchronised before the clock is read.
    """

    def __init__(self, device: torch.device) -> None:
        self.busy_seconds = 0.0
        self._device = device
        self._flops: dict[str, float] = defaultdict(float)
        self._started: float | None = None

    def start(self) -> None:
        """Start the clock; nothing when it runs already. To be called before any work is done."""
        if self._started is None:
            self._started = self._now()

    def add(self, trial: str, flops: float) -> None:
        """Note work that has been done for a trial since the clock was started."""
        self._flops[trial] += flops

    def settle(self, credit: Callable[[str, float], None]) -> float:
        """Stop the clock and credit every trial with its share, in seconds.

        Returns:
            The elapsed seconds, which the shares add up to.
        """
        if self._started is None:
            return 0.0
        elapsed = self._now() - self._started
        total = sum(self._flops.values())
        for trial, flops in self._flops.items():
            credit(trial, elapsed * flops / total)
        self.busy_seconds += elapsed
        self._flops.clear()
        self._started = None
        return elapsed

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()

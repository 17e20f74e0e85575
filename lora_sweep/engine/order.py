"""In which order a trial sees its training examples: a function of its seed, not of what happened before."""

from __future__ import annotations

import numpy as np


class DataOrder:
    """An endless stream of examples: one permutation an epoch, each from (seed, epoch).

    Args:
        examples: how many there are.
        per_step: examples in one optimizer step; a step may reach over the end of an epoch.
        seed: the trial's.
    """

    def __init__(self, examples: int, per_step: int, seed: int) -> None:
        self._examples, self._per_step, self._seed = examples, per_step, seed
        self._epoch: int | None = None
        self._permutation = np.empty(0, dtype=np.int64)

    def at(self, step: int) -> np.ndarray:
        """Indices of the examples of a step, int64 [per_step]."""
        indices = np.empty(self._per_step, dtype=np.int64)
        done = 0
        while done < self._per_step:
            epoch, start = divmod(step * self._per_step + done, self._examples)
            part = self._permutation_of(epoch)[start : start + self._per_step - done]
            indices[done : done + len(part)] = part
            done += len(part)
        return indices

    def _permutation_of(self, epoch: int) -> np.ndarray:
        if epoch != self._epoch:
            self._permutation = np.random.default_rng([self._seed, epoch]).permutation(self._examples)
            self._epoch = epoch
        return self._permutation

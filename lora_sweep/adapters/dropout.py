"""Dropout masks by counter: a mask is a function of (trial, step, module, row, position), never of a generator's past.

Therefore a trial draws the same masks alone and in any pack, on any engine. The bits are Philox's (Salmon et al.,
SC'11; numpy's `Philox`): the key names trial, step and module, the counter's highest word the row; each 64-bit word
serves four elements of 16 bits.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class DropoutStream:
    """Where a segment stands in its trial's stream of masks.

    Attributes:
        key: names the trial and its step; see `stream_key`.
        rows: int64 [b], the number of each of the segment's rows within its trial's batch of this step.
    """

    key: int
    rows: np.ndarray

    def keep_mask(self, module: str, p: float, row_elements: int) -> Tensor:
        """Which elements of a module's input stay.

        Args:
            module: full name of the module.
            p: probability that an element is dropped, in [0, 1), exact to 2**-16.
            row_elements: elements of one row (length times features).

        Returns:
            bool [b, row_elements], on the CPU.
        """
        key, words = stream_key(self.key, module), (row_elements + 3) // 4
        bits = np.empty((len(self.rows), words), dtype=np.uint64)
        for i, row in enumerate(self.rows.tolist()):
            bits[i] = np.random.Philox(key=key, counter=[0, 0, 0, row]).random_raw(words)
        return torch.from_numpy(bits.view(np.int16)[:, :row_elements]) >= round(p * 65536) - 32768

    def stretched(self, times: int) -> DropoutStream:
        """The stream for rows that were each cut into `times` rows."""
        return DropoutStream(self.key, (self.rows[:, None] * times + np.arange(times)).ravel())


def stream_key(*parts: int | str) -> int:
    """A 64-bit key from the parts, the same in every process."""
    text = "\0".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")

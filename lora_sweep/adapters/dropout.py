"""Dropout masks by counter: a mask is a function of (trial, step, module, row, position), never of a generator's past.

Therefore a trial draws the same masks alone, in any pack and on any device. The bits are those of splitmix64 (Steele, Lea & Flood, OOPSLA 2014, the finaliser of
`java.util.SplittableRandom`) over a plain counter; each 64-bit word serves four elements of 16 bits.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

_WORD = (1 << 64) - 1
_ROW_STRIDE = 1 << 40


@dataclass(frozen=True)
class DropoutStream:
    """Where a segment stands in its trial's stream of masks.

    Attributes:
        key: names the trial and its step; see `stream_key`.
        rows: int64 [b], the number of each of the segment's rows within its trial's batch of this step.
    """

    key: int
    rows: Tensor

    def keep_mask(self, module: str, p: float, row_elements: int) -> Tensor:
        """Which elements of a module's input stay.

        Args:
            module: full name of the module.
            p: probability that an element is dropped, in [0, 1), exact to 2**-16.
            row_elements: elements of one row (length times features).

        Returns:
            bool [b, row_elements].
        """
        words = (row_elements + 3) // 4
        counter = torch.arange(words, device=self.rows.device).unsqueeze(0) + (self.rows * _ROW_STRIDE).unsqueeze(1)
        bits = _splitmix64(counter.add_(_signed(stream_key(self.key, module))))
        threshold = round(p * 65536) - 32768
        return bits.view(torch.int16)[:, :row_elements] >= threshold


def stream_key(*parts: int | str) -> int:
    """A 64-bit key from the parts, the same in every process."""
    text = "\0".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _splitmix64(z: Tensor) -> Tensor:
    z.mul_(_signed(0x9E3779B97F4A7C15))
    z.bitwise_xor_(_shift_right(z, 30)).mul_(_signed(0xBF58476D1CE4E5B9))
    z.bitwise_xor_(_shift_right(z, 27)).mul_(_signed(0x94D049BB133111EB))
    return z.bitwise_xor_(_shift_right(z, 31))


def _shift_right(z: Tensor, bits: int) -> Tensor:
    # int64 shifts copy the sign in; the mask takes it out again
    return (z >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def _signed(word: int) -> int:
    word &= _WORD
    return word - (1 << 64) if word >> 63 else word

"""Dropout masks by counter: a mask is a function of (trial, step, module, row, token), never of a generator's past.

Therefore a trial draws the same masks alone and in any pack, on any engine and device. Drawing random bits for every
element costs more than the products that the mask is for; so the bits are drawn once, into a table, and a token's mask
is a window of the table that begins where a hash of the counter says (the noise table of Salimans et al.,
arXiv 1703.03864, section 2.1). The table holds Philox's bits (Salmon et al., SC'11), the hash is MurmurHash3's 64-bit
finaliser in two parts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

_WINDOWS = 1 << 20  # where a token's mask may begin
WIDEST = 1 << 17  # most features of a layer
_MIX = (0xFF51AFD7ED558CCD - (1 << 64), 0xC4CEB9FE1A85EC53 - (1 << 64))
_STEP = 0x9E3779B97F4A7C15 - (1 << 64)


@dataclass(frozen=True)
class DropoutStream:
    """Where a segment stands in its trial's stream of masks.

    Attributes:
        key: names the trial and its step; see `stream_key`.
        rows: int64 [b], the number of each of the segment's rows within its trial's batch of this step.
    """

    key: int
    rows: np.ndarray

    def row_keys(self) -> np.ndarray:
        """A key for every row: int64 [b]."""
        keys = self.rows.astype(np.uint64) * np.uint64(_STEP % (1 << 64)) + np.uint64(self.key)
        keys ^= keys >> np.uint64(32)
        return (keys * np.uint64(_MIX[1] % (1 << 64))).view(np.int64)


def window_starts(row_keys: Tensor, positions: Tensor, module_keys: Tensor) -> Tensor:
    """Where the masks of all tokens begin in a table.

    Args:
        row_keys: int64 [tokens], of each token's row.
        positions: int64 [tokens], each token's number within its row.
        module_keys: int64 [modules].

    Returns:
        int64 [modules, tokens], each at least 0 and less than 2**20.
    """
    z = (row_keys + positions * _STEP) + module_keys[:, None]
    z ^= _shifted(z, 33)
    z *= _MIX[0]
    z ^= _shifted(z, 33)
    z *= _MIX[1]
    return _shifted(z, 44)


def module_key(name: str) -> Tensor:
    """The key of the module with this full name: int64 [1]."""
    return torch.from_numpy(np.array([stream_key(name)], dtype=np.uint64).view(np.int64))


class KeepTable:
    """Masks of one or several probabilities, one table after the other.

    Args:
        probabilities: of being dropped, each in [0, 1), exact to 2**-16, at most 1 - 2**-16.
        dtype: of what is masked; 2 or 4 bytes wide.
        device: where.
    """

    def __init__(self, probabilities: Sequence[float], dtype: torch.dtype, device: torch.device) -> None:
        self._integer = {2: torch.int16, 4: torch.int32}[dtype.itemsize]
        bits = _bits()
        tables = [bits >= min(round(p * 65536), 65535) - 32768 for p in probabilities]
        # all ones where an element stays, all zeros where it goes: a bitwise and is the cheapest way to apply it
        self._table = -torch.cat(tables).to(device, self._integer)
        self._starts = {p: i * len(bits) for i, p in enumerate(probabilities)}

    def start(self, p: float) -> int:
        """Where the table of a probability begins."""
        return self._starts[p]

    def masks(self, starts: Tensor, features: int) -> Tensor:
        """The masks of some tokens.

        Args:
            starts: int64 [tokens], where in all the tables each token's mask begins.
            features: at most 2**17.

        Returns:
            [tokens, features] of an integer type as wide as what is masked: all bits where an element stays.
        """
        assert features <= WIDEST, f"a layer has {features} features"
        windows = self._table.as_strided((len(self._table) - features + 1, features), (1, 1))
        return windows.index_select(0, starts)


def kept(x: Tensor, masks: Tensor) -> Tensor:
    """`x` with what the masks drop set to zero; takes the place of the masks."""
    masks &= x.view(masks.dtype)
    return masks.view(x.dtype)


def keep_(x: Tensor, masks: Tensor) -> Tensor:
    """Set what the masks drop to zero in `x`, in place."""
    x.view(masks.dtype).bitwise_and_(masks)
    return x


@cache
def _bits() -> Tensor:
    """Random 16-bit words, the same everywhere: int16 [2**20 + 2**17]."""
    words = np.random.Philox(key=0).random_raw((_WINDOWS + WIDEST) // 4)
    return torch.from_numpy(words.view(np.int16))


def _shifted(z: Tensor, by: int) -> Tensor:
    """int64 shifted right, zeros from the left."""
    return (z >> by) & ((1 << (64 - by)) - 1)


def stream_key(*parts: int | str) -> int:
    """A 64-bit key from the parts, the same in every process."""
    text = "\0".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")

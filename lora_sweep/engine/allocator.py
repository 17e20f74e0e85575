"""The C library's allocator, told to keep what it has.

By default glibc gives large blocks back to the system as soon as they are freed. Every activation is one, so each step
pays for fresh pages again: a tenth to a sixth of a step on a CPU (benchmarks/packing/floor.py, with and without).
"""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # malloc.h
_LARGEST = 2**31 - 1  # mallopt takes an int


def keep_freed_memory() -> bool:
    """Let this process keep freed memory for its next allocations; for one that does nothing but train.

    Returns:
        Whether the C library took it; others than glibc do not.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return False
    settings = ((_MMAP_THRESHOLD, _LARGEST), (_TRIM_THRESHOLD, _LARGEST), (_ARENA_MAX, 1))
    return all([mallopt(name, value) == 1 for name, value in settings])

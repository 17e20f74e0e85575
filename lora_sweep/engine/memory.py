"""Memory of the device: how an allocation fails, and the peak."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from lora_sweep.errors import OutOfMemoryError

# two are what CUDA and cuBLAS say by themselves, the last two what oneDNN says when it gets no memory
_MESSAGES = (
    "can't allocate memory",
    "not enough memory",
    "Cannot allocate memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "could not create a primitive",
    "could not create a memory",
)


@contextmanager
def as_out_of_memory(what: str) -> Iterator[None]:
    """Turn every way in which torch reports exhausted memory into one error.

    Raises:
        OutOfMemoryError: an allocation inside the block failed.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        plain = isinstance(error, RuntimeError) and not isinstance(error, torch.OutOfMemoryError)
        if plain and not any(message in str(error) for message in _MESSAGES):
            raise
        raise OutOfMemoryError(
            f"out of memory in {what}: {str(error).splitlines()[0] if str(error) else error!r}"
        ) from None


def forgotten(error: OutOfMemoryError) -> OutOfMemoryError:
    """The error without its past, whose frames hold the activations that did not fit."""
    error.__context__ = None
    return error.with_traceback(None)


def peak_bytes(device: torch.device) -> int:
    """The device's peak allocation (CUDA) or the process's largest resident set (CPU), in bytes."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024

"""Python's garbage collector, kept out of the way where it only costs: while much is imported, and at the end.

Importing torch and transformers makes a million objects that stay. Looking through them again and again takes a sixth
of the imports, and looking through them for the last time a second of every process's end.
"""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collection_paused() -> Iterator[None]:
    """Collect nothing in this block, while a process starts; never for training, where cycles may hold tensors."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def end_without_collection() -> None:
    """Leave what there is when this process ends to the system."""
    atexit.register(gc.freeze)

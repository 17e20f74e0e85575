"""Blocking calls of Ray actors that raise what the actor raised."""

from __future__ import annotations

from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayTaskError

from lora_sweep.errors import LoraSweepError

POLL_SECONDS = 5.0


def fetch(reference: Any) -> Any:
    """The value of an object reference.

    Raises:
        LoraSweepError: the actor raised it; it comes as it was, not wrapped in Ray's `RayTaskError`.
        RayActorError: the actor is gone (see `errors.ACTOR_LOST`).
    """
    while True:
        try:
            # one endless get would not notice every way in which a node can go
            return ray.get(reference, timeout=POLL_SECONDS)
        except GetTimeoutError:
            continue
        except RayTaskError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, LoraSweepError):
                raise cause from None
            raise

"""What can go wrong between trials, broker and engines; none of it is the trial's own fault.

LoraSweepError
├── StaleLeaseError     an engine does not know the caller's lease (any more)
└── EngineLostError     no engine could be had, or one died too often under a trial
"""

from __future__ import annotations

from ray.exceptions import (
    ActorDiedError,
    ActorUnschedulableError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    WorkerCrashedError,
)

from lora_sweep.errors import LoraSweepError

ACTOR_GONE = (ActorDiedError, ActorUnschedulableError, OutOfMemoryError)
"""What Ray raises when it will not start an actor again: restarts used up, no place left, killed for memory."""
ACTOR_LOST = (*ACTOR_GONE, RayActorError, NodeDiedError, ObjectLostError, WorkerCrashedError)
"""What Ray raises when an actor's process or node goes: first `ActorUnavailableError`, `ActorDiedError` only later."""


class StaleLeaseError(LoraSweepError):
    """The engine does not know this lease: it was restarted, or the slot went to a newer lease."""


class EngineLostError(LoraSweepError):
    """No engine is left, or engines died under the same trial too often."""

"""What can go wrong between trials, broker and engines; none of it is the trial's own fault.

LoraSweepError
├── StaleLeaseError     an engine does not know the caller's lease (any more)
└── EngineLostError     no engine could be had, or one died too often under a trial
"""

from __future__ import annotations

from ray.exceptions import NodeDiedError, ObjectLostError, RayActorError, WorkerCrashedError

from lora_sweep.errors import LoraSweepError

ACTOR_LOST = (RayActorError, NodeDiedError, ObjectLostError, WorkerCrashedError)
"""What Ray raises when an actor's process or node goes: first `ActorUnavailableError`, `ActorDiedError` only later."""


class StaleLeaseError(LoraSweepError):
    """The engine does not know this lease: it was restarted, or the slot went to a newer lease."""


class EngineLostError(LoraSweepError):
    """No engine is left, or engines died under the same trial too often."""

"""The Ray actor around an engine: fences off stale leases, and stays reachable when its base does not load."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from lora_sweep.engine.api import EngineInfo, Interval, SlotState
from lora_sweep.errors import LoraSweepError, ModelError
from lora_sweep.garbage import collection_paused
from lora_sweep.records import TrialConfig
from lora_sweep.store import RunFolder
from lora_sweep.sweep.errors import StaleLeaseError
from lora_sweep.sweep.layout import Placement
from lora_sweep.sweep.order import Order, wait_for_order

if TYPE_CHECKING:
    from lora_sweep.engine.service import EngineService

logger = logging.getLogger(__name__)

SLOW_IMPORTS = ("transformers.modeling_utils", "lora_sweep.engine.service")


class EngineActor:
    """One engine in a process of its own. Calls come from many threads.

    A trial's `run` must carry the epoch of the lease under which it opened its slot, so that a trial process that was
    believed dead cannot go on with a slot that its successor holds. After a crash Ray restarts the process with the
    same arguments and no slot open; the trials bring their states along.

    Args:
        order_file: what to do. The process imports what it needs, and then waits until the file is there; it is on a
            file system that this node shares with the driver.
        placement: the engine's place.
        patience: seconds to wait for the order; None for ever.
    """

    def __init__(self, order_file: str, placement: Placement, patience: float | None) -> None:
        self._lock = threading.Lock()
        self._epochs: dict[str, int] = {}
        self._slots = 0
        self._service: EngineService | None = None
        self._broken: LoraSweepError | None = None
        with collection_paused():
            _import()
            try:
                order = wait_for_order(Path(order_file), patience)
                self._slots = order.slots
                self._service = _build(order, placement)
            except LoraSweepError as error:  # a constructor's exception would reach the driver as text only
                logger.exception("the engine does not start")
                self._broken = error

    def open(self, trial_id: str, epoch: int, config: TrialConfig, state: SlotState | None) -> None:
        """Give the trial a slot, in place of one that it holds under an older lease.

        Raises:
            StaleLeaseError: a newer lease of the trial is known, or every slot is taken.
        """
        service = self._working()
        with self._lock:
            known = self._epochs.get(trial_id)
            if known is not None and known > epoch:
                raise StaleLeaseError(f"trial {trial_id}: a newer lease holds its slot")
            if known is None and len(self._epochs) >= self._slots:
                raise StaleLeaseError(f"trial {trial_id}: no slot is free")
            self._epochs[trial_id] = epoch
        try:
            service.open(trial_id, config, state)
        except BaseException:
            self._forget(trial_id, epoch)
            raise

    def run(self, trial_id: str, epoch: int, want_state: bool) -> Interval:
        """Train until the trial's next evaluation.

        Raises:
            StaleLeaseError: the trial holds no slot under this lease.
            TrialFailure: the trial failed; its slot is closed.
        """
        service = self._working()
        with self._lock:
            if self._epochs.get(trial_id) != epoch:
                raise StaleLeaseError(f"trial {trial_id}: its slot is gone")
        try:
            return service.run(trial_id, want_state)
        except BaseException:
            self.close(trial_id, epoch)
            raise

    def close(self, trial_id: str, epoch: int) -> None:
        """Free the slot that the trial holds under this lease; nothing when it holds none."""
        with self._lock:
            if self._epochs.get(trial_id) != epoch:
                return
        # the slot must be free before the table says so
        self._working().close(trial_id)
        self._forget(trial_id, epoch)

    def score(self, adapter: str | None, split: str, name: str, step: int) -> dict[str, float]:
        """Metrics of an adapter folder (None: the untouched base) on a split; writes its outcomes as `name`."""
        return self._working().score(None if adapter is None else Path(adapter), split, name, step)

    def info(self) -> EngineInfo:
        return self._working().info()

    def leases(self) -> dict[str, int]:
        """Trial ids that hold a slot, with the epochs of their leases."""
        self._working()
        with self._lock:
            return dict(self._epochs)

    def _forget(self, trial_id: str, epoch: int) -> None:
        with self._lock:
            if self._epochs.get(trial_id) == epoch:
                del self._epochs[trial_id]

    def _working(self) -> EngineService:
        if self._broken is not None:
            raise self._broken
        assert self._service is not None
        return self._service


def _import() -> None:
    """Load the slowest modules. They are imported again where they are used, and what fails here is told there."""
    with suppress(Exception):
        for module in SLOW_IMPORTS:
            import_module(module)


def _build(order: Order, placement: Placement) -> EngineService:
    """Raises LoraSweepError, whatever goes wrong."""
    model = order.config.model
    try:
        from lora_sweep.engine.service import build_service

        run = RunFolder(Path(order.run_path))
        return build_service(model, order.task, order.options(placement), run, order.warm_up)
    except LoraSweepError:
        raise
    except Exception as error:
        message = " ".join(str(error).split()).rstrip(".")
        rule = f"must be one that an engine can train ({type(error).__name__}: {message})"
        raise ModelError(f"model {model.name}", rule, None, "Does its architecture support the task?") from error

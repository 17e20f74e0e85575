"""What the engines of a sweep are to do, in a file: Ray keeps no object for an actor that it restarts."""

from __future__ import annotations

import math
import pickle
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from lora_sweep.engine.api import EngineOptions
from lora_sweep.errors import RunFolderError
from lora_sweep.records import TrialConfig

if TYPE_CHECKING:
    from lora_sweep.config import SweepConfig
    from lora_sweep.sweep.layout import Placement
    from lora_sweep.tasks import EncodedTask

POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Order:
    """The work of all engines of a sweep.

    Attributes:
        config: the sweep; its model, metric, training and resources are looked at.
        task: the data.
        slots: of each engine.
        run_path: the run folder.
        warm_up: a configuration like those that are to come, whose first steps are thrown away.
    """

    config: SweepConfig
    task: EncodedTask
    slots: int
    run_path: str
    warm_up: TrialConfig

    def options(self, placement: Placement) -> EngineOptions:
        """How an engine at this place works."""
        metric, resources = self.config.metric, self.config.resources
        return EngineOptions(
            device=placement.device,
            slots=self.slots,
            threads=placement.threads,
            metric=metric.name,
            mode=metric.mode,
            keep=metric.keep,
            tokens_per_pass=resources.tokens_per_pass,
            base_dropout=self.config.training.base_dropout,
            activation_checkpointing=resources.activation_checkpointing,
            cuda_graphs=resources.cuda_graphs,
        )

    def write(self, file: Path) -> None:
        """Write it in one go: who waits for the file never sees a part of it."""
        part = file.with_suffix(".part")
        part.write_bytes(pickle.dumps(self, protocol=pickle.HIGHEST_PROTOCOL))
        part.rename(file)


def wait_for_order(file: Path, patience: float | None) -> Order:
    """The order in a file, as soon as it is there.

    Args:
        file: where it will be.
        patience: for so many seconds; None for ever.

    Raises:
        RunFolderError: it does not come, or cannot be read.
    """
    until = math.inf if patience is None else time.monotonic() + patience
    while not _is_there(file):
        if time.monotonic() > until:
            rule = f"must be in a folder that all nodes of the cluster share (not seen for {patience:g} s)"
            raise RunFolderError(str(file), rule, None, "Choose another --output.")
        time.sleep(POLL_SECONDS)
    try:
        return cast(Order, pickle.loads(file.read_bytes()))
    except Exception as error:  # unpickling raises whatever another version of a class raises
        rule = f"must be readable by every engine ({type(error).__name__}: {error})"
        fix = "Do all nodes have the same user and the same lora_sweep?"
        raise RunFolderError(str(file), rule, None, fix) from error


def _is_there(file: Path) -> bool:
    try:
        return file.exists()
    except OSError:  # a folder above it that this user may not look into
        return False

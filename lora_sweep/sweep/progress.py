"""What a sweep tells while it runs."""

from __future__ import annotations

from typing import Protocol

from lora_sweep.records import TrialConfig, TrialRecord


class ProgressListener(Protocol):
    """Called in the driver's process, in order; must return quickly."""

    def stage(self, text: str) -> None:
        """The sweep goes on to another stage, e.g. `starting 2 engines`."""

    def note(self, text: str) -> None:
        """Something that the user should know: a sentence."""

    def planned(self, trials: int) -> None:
        """How many trials there will be at most, those of before a resume included."""

    def started(self, trial_id: str, config: TrialConfig) -> None:
        """A trial was started, or started again after a crash."""

    def reported(self, record: TrialRecord) -> None:
        """A trial was evaluated; `record.history[-1]` is the evaluation."""

    def ended(self, record: TrialRecord) -> None:
        """A trial is over; its record is in the run folder."""


class Silence:
    """A listener that does nothing."""

    def stage(self, text: str) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""

    def planned(self, trials: int) -> None:
        """Nothing."""

    def started(self, trial_id: str, config: TrialConfig) -> None:
        """Nothing."""

    def reported(self, record: TrialRecord) -> None:
        """Nothing."""

    def ended(self, record: TrialRecord) -> None:
        """Nothing."""

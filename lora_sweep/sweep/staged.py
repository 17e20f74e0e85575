"""The trials of a validation as a Tune searcher: first those that choose a rate, then those that are compared."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from lora_sweep.store import RunFolder
from lora_sweep.sweep.arms import ValidationPlan, finals, tuning
from lora_sweep.sweep.search import Search


class StagedSearch(Searcher):  # type: ignore[misc]  # Ray ships no types
    """Hands out the tuning trials, waits for all of their records, and hands out the final trials.

    What was learned is in the run's records alone, so that a validation that was killed goes on as if it had not been.

    Args:
        plan: the validation.
        run: whose records tell how the tuning trials ended.
    """

    def __init__(self, plan: ValidationPlan, run: RunFolder) -> None:
        super().__init__()
        self._plan, self._path = plan, run.path.resolve()
        self._next = 0

    def set_search_properties(self, metric: str | None, mode: str | None, config: Mapping[str, Any], **_: Any) -> bool:
        """The plan says what is compared."""
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial, Tune's word for the end, or None: not yet."""
        known = tuning(self._plan)
        if self._next >= len(known):
            records = {record.trial_id: record for record in RunFolder(self._path).records()}
            chosen = finals(self._plan, records)
            if chosen is None:
                return None
            known += chosen
        if self._next >= len(known):
            return str(Searcher.FINISHED)
        self._next += 1
        return known[self._next - 1].candidate.to_tune()

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        """The records tell."""

    def save(self, checkpoint_path: str) -> None:
        """Write how far it has come."""
        with Path(checkpoint_path).open("wb") as file:
            pickle.dump((self._next, self._plan, self._path), file)

    def restore(self, checkpoint_path: str) -> None:
        """Go on from there."""
        with Path(checkpoint_path).open("rb") as file:
            self._next, self._plan, self._path = pickle.load(file)


def staged_search(plan: ValidationPlan, run: RunFolder) -> Search:
    """The search of a validation."""
    evaluations = max(len(arm.config.evaluations()) for arm in plan.arms)
    return Search(StagedSearch(plan, run), plan.trials, evaluations, ())

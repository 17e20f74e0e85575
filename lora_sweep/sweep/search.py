"""The search algorithms as Tune searchers."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray.tune.search import Searcher

from lora_sweep.sweep.candidates import Candidate, Repeat, list_candidates

if TYPE_CHECKING:
    from lora_sweep.config import SweepConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Search:
    """A searcher and what it will ask for.

    Attributes:
        searcher: for `TuneConfig.search_alg`, not yet limited in concurrency.
        trials: how many trials there will be, at most.
        evaluations: the most evaluations that any trial has.
        notes: what the user should know, one sentence each.
    """

    searcher: Searcher
    trials: int
    evaluations: int
    notes: tuple[str, ...]


class ListSearch(Searcher):  # type: ignore[misc]  # Ray ships no types
    """Hands out a list of candidates in order: random and grid search, and the repeats of the finalists.

    Args:
        candidates: the list.
    """

    def __init__(self, candidates: Sequence[Candidate | Repeat]) -> None:
        super().__init__()
        self._candidates = list(candidates)
        self._next = 0

    def set_search_properties(self, metric: str | None, mode: str | None, config: Mapping[str, Any], **_: Any) -> bool:
        """Nothing depends on the metric."""
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """The next candidate, or Tune's word for the end."""
        if self._next >= len(self._candidates):
            return str(Searcher.FINISHED)
        self._next += 1
        return self._candidates[self._next - 1].to_tune()

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        """Nothing is learned."""

    def save(self, checkpoint_path: str) -> None:
        """Write the position in the list."""
        with Path(checkpoint_path).open("wb") as file:
            pickle.dump((self._next, self._candidates), file)

    def restore(self, checkpoint_path: str) -> None:
        """Go on at the saved position."""
        with Path(checkpoint_path).open("rb") as file:
            self._next, self._candidates = pickle.load(file)


def build_search(config: SweepConfig, train_examples: int) -> Search:
    """The searcher that `search.algorithm` names."""
    if config.search.algorithm == "tpe":
        return _build_tpe(config, train_examples)
    candidates = list_candidates(config, train_examples)
    evaluations = max(len(candidate.config.evaluations()) for candidate in candidates)
    configurations = len(candidates) // config.search.repeats
    return Search(ListSearch(candidates), len(candidates), evaluations, _notes(config, configurations))


def _build_tpe(config: SweepConfig, train_examples: int) -> Search:
    from lora_sweep.sweep.tpe import TpeSearch

    size = config.resolved_space().size()
    configurations = config.search.trials if size is None else min(config.search.trials, size)
    # the longest trial is not known beforehand; sampled ones tell, and the scheduler only needs an upper bound
    sampled = list_candidates(config, train_examples)
    evaluations = max(len(candidate.config.evaluations()) for candidate in sampled)
    trials = configurations * config.search.repeats
    return Search(TpeSearch(config, train_examples), trials, evaluations, _notes(config, configurations))


def _notes(config: SweepConfig, configurations: int) -> tuple[str, ...]:
    return (*_number_notes(config, configurations), *_seed_notes(config))


def _number_notes(config: SweepConfig, configurations: int) -> Iterator[str]:
    asked = config.search.trials
    if config.search.algorithm == "grid":
        if configurations != asked:
            yield f"The grid has {configurations} configurations; search.trials ({asked}) does not apply to it."
    elif configurations < asked:
        what = "trials" if config.search.repeats == 1 else f"times {config.search.repeats} trials"
        number = f"{configurations} {what} instead of {asked}"
        yield f"The space has only {configurations} different configurations: {number}."


def _seed_notes(config: SweepConfig) -> Iterator[str]:
    if config.finalists.seeds == 0 and config.resolved_space().possible("seed"):
        yield "The space sets the seed, so no finalist is trained again with another one."

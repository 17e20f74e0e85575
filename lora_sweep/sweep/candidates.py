"""From samples of a space to the candidates of a sweep, each configuration once or with several seeds, and repeats."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lora_sweep.records import TrialConfig

if TYPE_CHECKING:
    from lora_sweep.config import SweepConfig

TRIES_PER_TRIAL = 50
"""Samples that may be drawn in a row without a new one among them before a space counts as used up."""


@dataclass(frozen=True)
class Candidate:
    """A configuration and its place in the sweep.

    Attributes:
        number: counts from 0 in the order of suggestion.
        config: what to train.
    """

    number: int
    config: TrialConfig

    @property
    def trial_id(self) -> str:
        """Number and configuration, e.g. `007-3fa9c1`: a sweep that is resumed gives the same id to the same trial."""
        return f"{self.number:03d}-{self.config.fingerprint()[:6]}"

    def to_tune(self) -> dict[str, Any]:
        """What Tune passes to the trial: plain JSON."""
        return {"trial_id": self.trial_id, "trial": self.config.model_dump(mode="json")}


@dataclass(frozen=True)
class Repeat:
    """The configuration of a trial once more, with another seed.

    Attributes:
        repeat_of: the trial's id.
        number: of the seed among those of the configuration, from 2.
        config: what to train.
    """

    repeat_of: str
    number: int
    config: TrialConfig

    @property
    def trial_id(self) -> str:
        """E.g. `007-3fa9c1-seed2`."""
        return f"{self.repeat_of}-seed{self.number}"

    def to_tune(self) -> dict[str, Any]:
        """What Tune passes to the trial: plain JSON."""
        trial = self.config.model_dump(mode="json")
        return {"trial_id": self.trial_id, "trial": trial, "repeat_of": self.repeat_of}


def list_candidates(config: SweepConfig, train_examples: int) -> list[Candidate]:
    """All candidates of a `random` or `grid` search: no configuration twice, each with `search.repeats` seeds in a row.

    Args:
        config: the sweep; a grid has every configuration of the space, whatever `trials` says.
        train_examples: size of the training data, which turns epochs into steps.
    """
    found: dict[str, TrialConfig] = {}
    for sample in _samples(config, found):
        trial = config.trial_config(dict(sample), train_examples)
        found.setdefault(trial.fingerprint(), trial)
    seeds = config.search.repeats
    trials = [trial if seeds == 1 else config.with_seed(trial, n + 1) for trial in found.values() for n in range(seeds)]
    return [Candidate(number, trial) for number, trial in enumerate(trials)]


def _samples(config: SweepConfig, found: Mapping[str, TrialConfig]) -> Iterable[Mapping[str, Any]]:
    """Samples until `found`, which the caller fills, is long enough or the space is used up."""
    space = config.resolved_space()
    if config.search.algorithm == "grid":
        yield from space.grid()
        return
    rng = random.Random(config.search.seed)
    size = space.size()
    wanted = config.search.trials if size is None else min(config.search.trials, size)
    in_vain, before = 0, 0
    while len(found) < wanted and in_vain < TRIES_PER_TRIAL * wanted:
        yield space.sample(rng)
        in_vain = in_vain + 1 if len(found) == before else 0
        before = len(found)

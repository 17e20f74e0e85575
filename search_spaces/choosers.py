"""Who decides between the options of a space."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Protocol

from search_spaces.domains import Choice, Option
from search_spaces.errors import SpaceError
from search_spaces.keys import KEYS
from search_spaces.traversal import Bound, Odometer


class Chooser(Protocol):
    """Who decides: a random generator, an Optuna trial, a grid.

    One `name` always comes with the same choices or bounds, so the calls map onto `suggest_categorical`,
    `suggest_float` and `suggest_int`.
    """

    def categorical(self, name: str, choices: Sequence[str]) -> int:
        """The index of one of the labels."""

    def uniform(self, name: str, low: float, high: float, log: bool) -> float:
        """A number in [low, high]."""

    def integer(self, name: str, low: int, high: int, step: int, log: bool) -> int:
        """A whole number in [low, high], `low` plus a multiple of `step`."""


class RandomChooser:
    """Draws every choice and number independently.

    Args:
        rng: the source of randomness.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def categorical(self, name: str, choices: Sequence[str]) -> int:
        return self._rng.randrange(len(choices))

    def uniform(self, name: str, low: float, high: float, log: bool) -> float:
        if not log:
            return min(max(self._rng.uniform(low, high), low), high)
        drawn = math.exp(self._rng.uniform(math.log(low), math.log(high)))
        return min(max(drawn, low), high)

    def integer(self, name: str, low: int, high: int, step: int, log: bool) -> int:
        if not log:
            return self._rng.randrange(low, high + 1, step)
        # each whole number owns the half steps around it, so that both ends get their share
        drawn = math.exp(self._rng.uniform(math.log(low - 0.5), math.log(high + 0.5)))
        return min(max(round(drawn), low), high)


class GridChooser:
    """Walks through every combination of choices; `odometer.advance()` goes to the next one."""

    def __init__(self) -> None:
        self.odometer = Odometer()

    def categorical(self, name: str, choices: Sequence[str]) -> int:
        return self.odometer.pick(len(choices))

    def uniform(self, name: str, low: float, high: float, log: bool) -> float:
        raise SpaceError(name, "must not be a continuous range for a grid", [low, high])

    def integer(self, name: str, low: int, high: int, step: int, log: bool) -> int:
        return low + step * self.odometer.pick((high - low) // step + 1)


def ask(chooser: Chooser, name: str, bound: Bound) -> Option:
    """The chooser's decision; fixed values are not asked for.

    Args:
        chooser: who decides.
        name: under which name.
        bound: the key and its domain; a drawn number becomes an option without a branch.
    """
    domain = bound.domain
    if isinstance(domain, Choice):
        if domain.fixed:
            return domain.options[0]
        return domain.options[chooser.categorical(name, [option.label for option in domain.options])]
    if not domain.integer:
        return Option("", chooser.uniform(name, float(domain.low), float(domain.high), domain.log))
    number = chooser.integer(name, int(domain.low), int(domain.high), domain.step, domain.log)
    return Option("", number if KEYS[bound.key].kind == "integer" else float(number))

"""A space: which configurations a sweep may try.

rank: [4, 8, 16, 32]                                  a list: choices
alpha: {times_rank: [1, 2]}                           a factor of the rank
dropout: {uniform: [0.0, 0.1]}                        uniform, log_uniform, integer (step:), log_integer
target_modules:                                       named sets: groups, module names, lists of them
  attention-qv: [q_proj, v_proj]
  all-linear: {value: all-linear, with: {rank: [4, 8]}}   a choice may carry keys of its own
learning_rate: {log_uniform: [1e-4, 3e-3]}
batch_size: 16                                        one value: fixed
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from search_spaces.choosers import Chooser, GridChooser, RandomChooser, ask
from search_spaces.domains import Entries, Option, Range, entries_to_raw, plain
from search_spaces.errors import Shown, SpaceError, hint
from search_spaces.keys import DEFAULTS, KEYS
from search_spaces.parameters import ParameterInfo, parameter_info
from search_spaces.parsing import parse_entries
from search_spaces.texts import number_text
from search_spaces.traversal import Bound, World, occurrences, parameter_names, walk, worlds

_DEFAULTS = dict(parse_entries(DEFAULTS, "defaults"))

GRID_LIMIT = 100_000
"""A grid of more configurations than this is refused."""


@dataclass(frozen=True)
class Space:
    """A validated space; make one with `Space.parse` or `load`.

    Attributes:
        entries: the keys with their domains, defaults included.
        place: what errors call it.
    """

    entries: Entries
    place: str = field(default="space", compare=False)

    @classmethod
    def parse(cls, raw: Mapping[str, Any], place: str = "space") -> Space:
        """Validate a space and fill in the defaults of what it leaves out.

        Args:
            raw: the mapping as YAML gives it.
            place: where it stands, the start of every error's place.

        Raises:
            SpaceError: the first rule that it breaks.
        """
        entries = _DEFAULTS | dict(parse_entries(raw, place))
        space = cls(tuple((key, entries[key]) for key in KEYS if key in entries), place)
        _ = space._worlds  # whose making finds contradictions between branches
        return space

    def to_dict(self) -> dict[str, Any]:
        """The space as YAML's values, defaults written out; `Space.parse` reads it back equal."""
        return entries_to_raw(self.entries)

    def suggest(self, chooser: Chooser) -> dict[str, Any]:
        """One configuration: plain keys to values, and `target_label`.

        Args:
            chooser: asked once for each key that is not fixed, those of the taken branches included.
        """

        scaled = False

        def decide(bound: Bound) -> Option:
            nonlocal scaled
            if bound.key == "alpha":
                scaled = bound.domain.times_rank
            return ask(chooser, self._names[bound.path, bound.key], bound)

        options = walk(self.entries, decide, self.place)
        return _configuration(options, scaled)

    def sample(self, rng: random.Random) -> dict[str, Any]:
        """One configuration drawn at random; choices are equally likely."""
        return self.suggest(RandomChooser(rng))

    def size(self) -> int | None:
        """How many distinct configurations there are; None when a number is continuous."""
        total = 0
        for world in self._worlds:
            counts = [bound.domain.count for bound in world.values()]
            if None in counts:
                return None
            total += math.prod(count for count in counts if count is not None)
        return total

    def grid(self) -> list[dict[str, Any]]:
        """Every distinct configuration, the last key turning fastest.

        Raises:
            SpaceError: a key is continuous, or there are more than `GRID_LIMIT`.
        """
        self.check_grid()
        chooser = GridChooser()
        found = [self.suggest(chooser)]
        while chooser.odometer.advance():
            found.append(self.suggest(chooser))
        return found

    def check_grid(self) -> None:
        """Refuse a space that has no grid.

        Raises:
            SpaceError: a key is continuous, or there are more than `GRID_LIMIT` configurations.
        """
        for world in self._worlds:
            for bound in world.values():
                _refuse_continuous(bound, self.place)
        size = self.size()
        if size is None or size > GRID_LIMIT:
            fix = "Shorten the lists, or search with algorithm: random or tpe."
            raise SpaceError(self.place, f"must have at most {GRID_LIMIT} configurations for a grid", size, fix)

    def parameters(self) -> tuple[ParameterInfo, ...]:
        """Everything that a chooser may be asked for, conditional parameters included, in the order of the keys."""
        reached = {(bound.path, key) for world in self._worlds for key, bound in world.items()}
        found: dict[str, list[Bound]] = {}
        for bound in occurrences(self.entries):
            if not bound.domain.fixed and (bound.path, bound.key) in reached:
                found.setdefault(self._names[bound.path, bound.key], []).append(bound)
        infos = [parameter_info(name, bounds) for name, bounds in found.items()]
        return tuple(sorted(infos, key=lambda info: (list(KEYS).index(info.key), len(info.conditions))))

    def possible(self, name: str) -> list[Any]:
        """Every value that a key can take in some configuration; for a range its two bounds.

        Args:
            name: the plain key. A key that no configuration holds gives an empty list.

        Raises:
            SpaceError: no such key.
        """
        if name not in KEYS:
            raise SpaceError(f"{self.place}.{name}", "is not a key of a space", None, hint(name, KEYS, "Known keys"))
        found: dict[Any, None] = {}
        for world in self._worlds:
            found.update(dict.fromkeys(_values_in(world, name)))
        return [plain(value) for value in found]

    @cached_property
    def _worlds(self) -> list[World]:
        return worlds(self.entries, self.place)

    @cached_property
    def _names(self) -> dict[tuple[tuple[str, ...], str], str]:
        return parameter_names(self.entries)


def _configuration(options: Mapping[str, Option], scaled: bool) -> dict[str, Any]:
    """The decisions as plain keys and values; with `scaled`, alpha was a factor of the rank."""
    found: dict[str, Any] = {}
    for key in KEYS:
        if key not in options:
            continue
        found[key] = plain(options[key].value)
        if key == "target_modules":
            found["target_label"] = options[key].label
    if scaled:
        found["alpha"] = found["alpha"] * found["rank"]
    return found


def _values_in(world: World, key: str) -> list[Any]:
    if key not in world:
        return []
    domain = world[key].domain
    values: list[Any] = list(domain.values())
    if not domain.times_rank:
        return values
    ranks: list[Any] = _values_in(world, "rank")
    return [factor * rank for factor in values for rank in ranks]


def _refuse_continuous(bound: Bound, place: str) -> None:
    domain = bound.domain
    if not isinstance(domain, Range) or domain.integer:
        return
    low, high = float(domain.low), float(domain.high)
    middle = math.sqrt(low * high) if domain.log else (low + high) / 2
    choices = ", ".join(number_text(float(f"{number:.2g}")) for number in (low, middle, high))
    where = f"{place}.{'/'.join((*bound.path, bound.key))}"
    fix = f"List what to try, e.g. [{choices}], or search with algorithm: random or tpe."
    raise SpaceError(where, "must not be a continuous range for a grid", Shown(str(domain.to_raw())), fix)

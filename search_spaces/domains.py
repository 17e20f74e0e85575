"""What one key of a space may be: a choice of options, or a range of numbers.

A fixed value is a choice with one option. Everything here is immutable and hashable.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from search_spaces.texts import number_text


@dataclass(frozen=True)
class Pattern:
    """Numbers of single layers, by their full names."""

    items: tuple[tuple[str, int | float], ...]


Value = int | float | str | tuple[str, ...] | Pattern | None
"""What an option stands for; a tuple is a list of module names."""

RangeKind = Literal["uniform", "log_uniform", "integer", "log_integer"]


@dataclass(frozen=True)
class Option:
    """One option of a choice.

    Attributes:
        label: its name, unique in the choice.
        value: what the configuration gets.
        branch: further keys that hold when this option is taken (`with:`).
    """

    label: str
    value: Value
    branch: Entries = ()


@dataclass(frozen=True)
class Choice:
    """One of several options.

    Attributes:
        options: at least one.
        times_rank: the values are factors of the rank (alpha only).
        labelled: the options were given with labels of their own (target modules, patterns).
    """

    options: tuple[Option, ...]
    times_rank: bool = False
    labelled: bool = field(default=False, compare=False)

    @property
    def fixed(self) -> bool:
        return len(self.options) == 1

    @property
    def count(self) -> int:
        return len(self.options)

    def mentions(self) -> frozenset[str]:
        """Every key that stands under a `with` of this choice, at any depth."""
        found: set[str] = set()
        for option in self.options:
            for key, domain in option.branch:
                found |= {key} | domain.mentions()
        return frozenset(found)

    def groups(self) -> tuple[Choice, ...]:
        """The choice split by what follows from it: the plain options together, each one with a branch alone."""
        plain = tuple(option for option in self.options if not option.branch)
        groups: list[tuple[Option, ...]] = ([plain] if plain else []) + [
            (option,) for option in self.options if option.branch
        ]
        return tuple(Choice(group, self.times_rank) for group in groups)

    def values(self) -> list[Value]:
        return [option.value for option in self.options]

    def to_raw(self) -> Any:
        """The choice as YAML's values; `parse` reads it back equal."""
        first = self.options[0]
        bare = not isinstance(first.value, tuple) and first.label == label_of(first.value)
        if self.labelled and not (self.fixed and bare and not first.branch):
            return {option.label: _option_raw(option) for option in self.options}
        if self.fixed and not first.branch:
            raw = plain(first.value)
        else:
            raw = [_option_raw(option) for option in self.options]
        return {"times_rank": raw} if self.times_rank else raw


@dataclass(frozen=True)
class Range:
    """All numbers from `low` to `high`, both included.

    Attributes:
        kind: continuous or whole numbers, evenly or evenly in the logarithm.
        low: at most `high`; above 0 for the logarithmic kinds.
        high: for whole numbers, `low` plus a multiple of `step`.
        step: distance between whole numbers.
        times_rank: the numbers are factors of the rank (alpha only).
    """

    kind: RangeKind
    low: int | float
    high: int | float
    step: int = 1
    times_rank: bool = False

    @property
    def fixed(self) -> bool:
        return False

    @property
    def log(self) -> bool:
        return self.kind.startswith("log_")

    @property
    def integer(self) -> bool:
        return self.kind.endswith("integer")

    @property
    def count(self) -> int | None:
        """How many values; None when continuous."""
        return (int(self.high) - int(self.low)) // self.step + 1 if self.integer else None

    def mentions(self) -> frozenset[str]:
        return frozenset()

    def groups(self) -> tuple[Range, ...]:
        return (self,)

    def values(self) -> list[Value]:
        """The two bounds."""
        return [self.low, self.high]

    def to_raw(self) -> Any:
        """The range as YAML's values; `parse` reads it back equal."""
        raw: dict[str, Any] = {self.kind: [self.low, self.high]}
        if self.step != 1:
            raw["step"] = self.step
        return {"times_rank": raw} if self.times_rank else raw


Domain = Choice | Range
Entries = tuple[tuple[str, Domain], ...]
"""Keys with their domains, in the order of `KEYS`."""


def entries_to_raw(entries: Entries) -> dict[str, Any]:
    """The entries as one mapping of YAML's values."""
    return {key: domain.to_raw() for key, domain in entries}


def label_of(value: Value, times_rank: bool = False) -> str:
    """An option's name where the space gives none: `16`, `0.05`, `2 x rank`, `adamw`, `null`."""
    if value is None:
        return "null"
    if isinstance(value, int | float):
        return number_text(value) + (" x rank" if times_rank else "")
    if isinstance(value, Pattern):
        return "pattern"
    return value if isinstance(value, str) else "+".join(value)


def plain(value: Value) -> Any:
    """The value as YAML and configurations have it: a list for a tuple, a mapping for a pattern."""
    if isinstance(value, Pattern):
        return dict(value.items)
    return list(value) if isinstance(value, tuple) else value


def _option_raw(option: Option) -> Any:
    value = plain(option.value)
    return {"value": value, "with": entries_to_raw(option.branch)} if option.branch else value

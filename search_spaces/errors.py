"""The one exception of this package, and the did-you-mean that its messages share."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SpaceError(ValueError):
    """A search space breaks a rule: `place: rule, got value. fix`.

    Args:
        place: the key, outermost first, e.g. `space.rank`.
        rule: what must hold, e.g. `low must be <= high`.
        value: what was found there; omitted from the message when None.
        fix: what to do about it, a sentence.
    """

    def __init__(self, place: str, rule: str, value: object = None, fix: str = "") -> None:
        self.place, self.rule, self.value, self.fix = place, rule, value, fix
        got = "" if value is None else f", got {value!r}"
        super().__init__(f"{place}: {rule}{got}" + (f". {fix}" if fix else ""))

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.place, self.rule, self.value, self.fix)


class Shown(str):
    """A text that stands for a value in a message, without quotes: `got low=64, high=8`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def shown(value: object) -> object:
    """The value as a message shows it: None as YAML's null, everything else as it is."""
    return Shown("null") if value is None else value


def hint(word: object, known: Iterable[str], title: str) -> str:
    """`Did you mean 'rank'? Known keys: alpha, rank.`; the question only when something is close.

    Args:
        word: what was written.
        known: what could have been.
        title: what the known ones are called, e.g. `Known keys`.
    """
    options = list(known)
    close = difflib.get_close_matches(str(word), options, n=1)
    question = f"Did you mean {close[0]!r}? " if close else ""
    return f"{question}{title}: {', '.join(options)}."

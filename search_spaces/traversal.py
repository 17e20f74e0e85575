"""How a space is walked: keys are decided one after the other, and a choice may bring further keys.

A key under `with` takes the place of the same key further out, so a choice is decided before every key that stands
under one of its `with`s. A *world* is what is left of a space once every choice with branches is decided: in it no
key depends on another any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from search_spaces.domains import Choice, Domain, Entries, Option
from search_spaces.errors import SpaceError


@dataclass(frozen=True)
class Bound:
    """A key with its domain, where it stands.

    Attributes:
        key: the plain key.
        domain: its domain there.
        path: the choices that lead there, outermost first, as `key=label`; empty outside of every `with`.
    """

    key: str
    domain: Domain
    path: tuple[str, ...] = ()


World = Mapping[str, Bound]
"""Key to what it may be; the domain of a choice with branches is narrowed to the options that lead here."""


class Odometer:
    """Turns a walk that asks `pick` into an enumeration of all of its walks; the last decision turns fastest."""

    def __init__(self) -> None:
        self._digits: list[int] = []
        self._counts: list[int] = []
        self._position = 0

    def pick(self, count: int) -> int:
        """The decision between `count` ways in the present walk."""
        if self._position == len(self._digits):
            self._digits.append(0)
            self._counts.append(count)
        self._position += 1
        return self._digits[self._position - 1]

    def advance(self) -> bool:
        """Go to the next walk; False when all were walked."""
        self._position = 0
        while self._digits and self._digits[-1] + 1 == self._counts[-1]:
            self._digits.pop()
            self._counts.pop()
        if not self._digits:
            return False
        self._digits[-1] += 1
        return True


def walk(entries: Entries, decide: Callable[[Bound], Option], place: str) -> dict[str, Option]:
    """Decide every key once and return the decisions.

    Args:
        entries: the outermost keys.
        decide: picks an option of a domain (a range's number is an option without a branch).
        place: of the space, for errors.

    Raises:
        SpaceError: the `with`s contradict each other.
    """
    pending = {key: Bound(key, domain) for key, domain in entries}
    decided: dict[str, Option] = {}
    while pending:
        bound = pending.pop(_next(pending, place))
        option = decide(bound)
        decided[bound.key] = option
        path = (*bound.path, f"{bound.key}={option.label}")
        for key, domain in option.branch:
            where = f"{place}.{'/'.join(path)}"
            if key in decided:
                raise SpaceError(where, f"{key} is decided already, further out", None, "Leave it out there.")
            before = pending.get(key, Bound(key, domain))
            if before.path != path[: len(before.path)]:
                rule = f"{key} stands under `with` of {'/'.join(before.path)} too, and both can hold at once"
                raise SpaceError(where, rule, None, "Keep one of them, or put one choice under the other's `with`.")
            pending[key] = Bound(key, domain, path)
    return decided


def _next(pending: Mapping[str, Bound], place: str) -> str:
    """The first key that no other pending key can still replace."""
    mentions = {key: bound.domain.mentions() for key, bound in pending.items()}
    for key in pending:
        if not any(key in keys for other, keys in mentions.items() if other != key):
            return key
    names = " and ".join(key for key in pending if mentions[key])
    raise SpaceError(place, f"{names} set each other under `with`", None, "Let one of them decide the other.")


def worlds(entries: Entries, place: str) -> list[World]:
    """All worlds of a space.

    Raises:
        SpaceError: the `with`s contradict each other.
    """
    odometer = Odometer()
    found: list[World] = []
    while True:
        world: dict[str, Bound] = {}

        def decide(bound: Bound, world: dict[str, Bound] = world) -> Option:
            groups = bound.domain.groups()
            group = groups[odometer.pick(len(groups))]
            world[bound.key] = Bound(bound.key, group, bound.path)
            return group.options[0] if isinstance(group, Choice) else Option("", group.low)

        walk(entries, decide, place)
        found.append(world)
        if not odometer.advance():
            return found


def occurrences(entries: Entries, path: tuple[str, ...] = ()) -> Iterator[Bound]:
    """Every key with a domain, wherever it stands."""
    for key, domain in entries:
        yield Bound(key, domain, path)
        if isinstance(domain, Choice):
            for option in domain.options:
                yield from occurrences(option.branch, (*path, f"{key}={option.label}"))


def parameter_names(entries: Entries) -> dict[tuple[tuple[str, ...], str], str]:
    """(path, key) of every occurrence to the name under which a chooser is asked.

    A name always has the same domain: where a key has several, those under a `with` carry their path, as in
    `target_modules=all-linear/rank`.
    """
    found = list(occurrences(entries))
    domains: dict[str, set[Domain]] = {}
    for bound in found:
        if not bound.domain.fixed:
            domains.setdefault(bound.key, set()).add(bound.domain)
    return {
        (bound.path, bound.key): "/".join((*bound.path, bound.key))
        if len(domains.get(bound.key, ())) > 1
        else bound.key
        for bound in found
    }

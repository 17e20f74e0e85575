"""One piece of advice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml


@dataclass(frozen=True)
class Advice:
    """What to change in the next sweep, and the measured fact that says so.

    Attributes:
        title: the advice as an order.
        fact: what was measured, with its numbers.
        why: what follows from it.
        change: parts of SWEEP.yaml to replace: section to key to value; empty where no key changes it.
    """

    title: str
    fact: str
    why: str
    change: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def yaml(self) -> str:
        """The change as text to paste: each key takes the place of the same key of the sweep."""
        plain = {section: dict(keys) for section, keys in self.change.items()}
        return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, default_flow_style=None) if plain else ""

    def changed_keys(self) -> Iterator[tuple[str, str]]:
        """Section and key of everything that it changes."""
        for section, keys in self.change.items():
            for key in keys:
                yield section, key

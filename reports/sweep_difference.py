"""Which keys of several runs' sweep.yaml differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from reports import units
from reports.results import Results

_OF_THE_RUN = ("name",)
"""Keys that differ between any two runs and say nothing about what was swept."""


def sweep_differences(runs: Sequence[Results]) -> list[tuple[str, tuple[str, ...]]]:
    """Dotted key and its value in each run, for every key that not all have alike; a dash where it is missing.

    Runs without a readable sweep.yaml have dashes throughout.
    """
    said = [dict(_flat(_parsed(one.sweep))) for one in runs]
    known = [one for one in said if one]
    keys = dict.fromkeys(key for one in known for key in one if key not in _OF_THE_RUN)
    return [
        (key, tuple(one.get(key, units.MISSING) for one in said))
        for key in keys
        if len({one.get(key) for one in known}) > 1
    ]


def _parsed(text: str) -> Mapping[str, Any]:
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError:
        return {}
    return content if isinstance(content, Mapping) else {}


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            yield from _flat(inner, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", _said(inner)


def _said(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(_said(one) for one in value)
    return "null" if value is None else str(value)

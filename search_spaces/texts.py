"""From text to values: YAML without silent surprises, and numbers that YAML reads as text."""

from __future__ import annotations

import math
import re
from collections.abc import Hashable
from typing import Any

import yaml

from search_spaces.errors import SpaceError

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_WHOLE = re.compile(r"[+-]?\d+")


def read_number(value: object) -> int | float | None:
    """The finite number that `value` is or spells, or None.

    YAML 1.1 reads `1e-4` as text, so text that spells a number counts as one; `true` and `.inf` do not.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        text = value.strip()
        if not _NUMBER.fullmatch(text):
            return None
        value = int(text) if _WHOLE.fullmatch(text) and len(text) < 20 else float(text)
    if not isinstance(value, int | float):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:  # a whole number beyond every float
        return None


def number_text(value: int | float) -> str:
    """The shortest text that reads back as the same number: `2`, `0.05`, `1e-05`."""
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


def read_yaml(text: str, place: str) -> Any:
    """Parse one YAML document; a key that stands twice in a mapping is an error.

    Args:
        text: the document.
        place: what to call it in an error, e.g. the file's name.

    Raises:
        SpaceError: the text is no YAML; the place names line and column.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 (a SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        if mark is not None:
            place = f"{place}: line {mark.line + 1}, column {mark.column + 1}"
        raise SpaceError(place, f"must be valid YAML ({error.problem or error.context})") from None
    except yaml.YAMLError as error:
        raise SpaceError(place, f"must be valid YAML ({' '.join(str(error).split())})") from None


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader; of two equal keys it would keep the last one without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be plain text", key.start_mark)
            if key.value in seen and key.value != "<<":
                problem = f"the key {key.value!r} stands twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)

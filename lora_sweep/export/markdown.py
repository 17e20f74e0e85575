"""Text that people wrote, put into Markdown so that it stays text."""

from __future__ import annotations

import re
from typing import Any

_MARKS = re.compile(r"([\\`*_\[\]|~$])")
_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


class Markdown(str):
    """Text that is Markdown already."""

    __slots__ = ()


def escaped(value: Any) -> Markdown:
    """A value as plain text on one line, in a paragraph or in a cell of a table; Markdown as it is."""
    if isinstance(value, Markdown):
        return value
    text = "".join(char if char.isprintable() else " " for char in str(value))
    text = _MARKS.sub(r"\\\1", " ".join(text.split()))
    return Markdown("".join(_HTML.get(char, char) for char in text))


def fenced(code: Any, language: str = "") -> Markdown:
    """A block of code; the fence is longer than any run of backticks inside."""
    text = str(code)
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return Markdown(f"{fence}{language}\n{text}\n{fence}")

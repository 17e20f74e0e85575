"""From a cell to a value, or None where it says nothing. What a cell says must be right, or it is refused."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from lora_sweep.errors import DataError
from lora_sweep.importing.fields import PROPORTIONS, Kind
from lora_sweep.importing.mapping import ImportMap, StatusMap
from lora_sweep.importing.tables import Table

_SAYS_NOTHING = frozenset(("", "nan", "na", "n/a", "<na>", "none", "null", "nat", "-", "–"))
_STATUS_WORDS: Mapping[str, tuple[str, ...]] = {
    "complete": ("complete", "completed", "finished", "terminated", "done", "success", "succeeded"),
    "stopped": ("stopped", "pruned", "early_stopped", "early stopped"),
    "failed": ("failed", "fail", "failure", "crashed", "error", "errored"),
    "left_out": ("running", "waiting", "pending", "queued"),
}
_DURATION = re.compile(r"(?:(\d+) days? )?(\d+):(\d\d):(\d\d(?:\.\d+)?)")
_PLAIN_NAME = re.compile(r"[\w.\-]+")


class _Refused(Exception):
    """A cell that breaks the rule of its kind."""

    def __init__(self, rule: str, fix: str = "") -> None:
        super().__init__(rule)
        self.rule, self.fix = rule, fix


def read_cells(table: Table, column: str, kind: Kind, options: ImportMap) -> list[Any]:
    """The values of a column, None where a cell says nothing.

    Numbers that are not finite stay as they are in metrics and are refused elsewhere.

    Raises:
        DataError: a cell breaks the rule of its kind; the place names file, column and row.
    """
    read = _reader(kind, options)
    values: list[Any] = []
    for row, cell in enumerate(table.cells[column]):
        try:
            values.append(None if says_nothing(cell) else read(cell))
        except _Refused as refused:
            raise DataError(table.place(column, row), refused.rule, cell, refused.fix) from None
    return values


def read_metric(table: Table, column: str, metric: str, options: ImportMap) -> list[Any]:
    """The values of a metric as fractions where it is a share; what is not finite stays as it is.

    Raises:
        DataError: a cell is no number, or a share is not within its range.
    """
    values = read_cells(table, column, "metric", options)
    percent = options.scale.get(metric) == "percent"
    if metric.removeprefix("test_") in PROPORTIONS:
        _check_shares(table, column, metric, values, percent)
    if not percent:
        return values
    marked = [isinstance(cell, str) and "%" in cell for cell in table.cells[column]]
    return [v if v is None or sign else v / 100 for v, sign in zip(values, marked, strict=True)]


def says_nothing(cell: object) -> bool:
    """Whether a cell is empty or spells that nothing is known; `inf` says something."""
    if isinstance(cell, str):
        return cell.strip().casefold() in _SAYS_NOTHING
    return cell is None or cell != cell


def as_text(cell: object) -> str:
    """A cell as text; a whole number without its decimals, as parquet files hold ids beside empty cells."""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell).strip()


def _check_shares(table: Table, column: str, metric: str, values: Sequence[float | None], percent: bool) -> None:
    known = [(row, value) for row, value in enumerate(values) if value is not None and math.isfinite(value)]
    most = 100 if percent else 1
    for row, value in known:
        if not 0 <= value <= most:
            fix = f"If it is in percent, say `scale: {{{metric}: percent}}` in the map." if 1 < value <= 100 else ""
            raise DataError(table.place(column, row), f"must be a share from 0 to {most}", value, fix)
    if percent and known and max(value for _, value in known) <= 1:
        fix = f"Leave scale.{metric} out if these are fractions."
        raise DataError(f"{table.path}: column {column}", "must be in percent, but no value is above 1", None, fix)


def _reader(kind: Kind, options: ImportMap) -> Callable[[object], Any]:
    def number(cell: object) -> float:
        return _number(cell, options.decimal)

    words = _status_words(options.status)
    readers: dict[Kind, Callable[[object], Any]] = {
        "text": as_text,
        "status": lambda cell: _status(cell, words),
        "targets": _targets,
        "metric": lambda cell: _share_sign(cell, number),
        "seconds": lambda cell: _seconds(cell, number),
        "whole": lambda cell: _whole(number(cell), 0),
        "count": lambda cell: _whole(number(cell), 1),
        "positive": lambda cell: _within(number(cell), lambda x: x > 0, "above 0"),
        "not_negative": lambda cell: _within(number(cell), lambda x: x >= 0, "of at least 0"),
        "share": lambda cell: _within(_share_sign(cell, number), lambda x: 0 <= x < 1, "of at least 0 and below 1"),
    }
    return readers[kind]


def _number(cell: object, decimal: str) -> float:
    if isinstance(cell, bool) or not isinstance(cell, str | int | float):
        raise _Refused("must be a number")
    if not isinstance(cell, str):
        return float(cell)
    text = cell.strip()
    if decimal == "," and "." not in text:
        text = text.replace(",", ".")
    try:
        # float() also takes 1_000
        return float(text if "_" not in text else "")
    except ValueError:
        pass
    fix = ""
    if "," in text:
        fix = 'Where the comma is the decimal mark, say `decimal: ","` in the map; thousands must not be separated.'
    raise _Refused("must be a number", fix)


def _share_sign(cell: object, number: Callable[[object], float]) -> float:
    """A number, or a percentage with its sign: `73.5 %` is 0.735."""
    if isinstance(cell, str) and cell.strip().endswith("%"):
        return number(cell.strip().removesuffix("%")) / 100
    return number(cell)


def _whole(value: float, least: int) -> int:
    if not math.isfinite(value) or value != int(value) or value < least:
        raise _Refused(f"must be a whole number of at least {least}")
    return int(value)


def _within(value: float, holds: Callable[[float], bool], rule: str) -> float:
    if not math.isfinite(value) or not holds(value):
        raise _Refused(f"must be a number {rule}")
    return value


def _seconds(cell: object, number: Callable[[object], float]) -> float:
    """Seconds, or a duration such as `0 days 00:01:30.5`."""
    if isinstance(cell, timedelta):
        return _within(cell.total_seconds(), lambda x: x >= 0, "of seconds of at least 0")
    found = _DURATION.fullmatch(cell.strip()) if isinstance(cell, str) else None
    if found is not None:
        days, hours, minutes, seconds = (float(part or 0) for part in found.groups())
        return 86400 * days + 3600 * hours + 60 * minutes + seconds
    return _within(number(cell), lambda x: x >= 0, "of seconds of at least 0")


def _targets(cell: object) -> str | tuple[str, ...]:
    """One name, group or regular expression; or several names, whose order does not matter."""
    if isinstance(cell, str):
        text = cell.strip()
        if text[:1] in "[({":
            try:
                cell = ast.literal_eval(text)
            except (ValueError, SyntaxError):
                return text
        else:
            parts = [part.strip() for part in text.split(",")]
            if len(parts) == 1 or not all(_PLAIN_NAME.fullmatch(part) for part in parts):
                return text
            cell = parts
    if not isinstance(cell, list | tuple | set) or not all(isinstance(one, str) for one in cell):
        raise _Refused("must be a name of modules, or a list of names")
    names = tuple(sorted(set(cell)))
    return names[0] if len(names) == 1 else names


def _status_words(own: StatusMap) -> dict[str, str]:
    words = {word: status for status, usual in _STATUS_WORDS.items() for word in usual}
    for status in _STATUS_WORDS:
        words |= {str(word).strip().casefold(): status for word in getattr(own, status)}
    return words


def _status(cell: object, words: Mapping[str, str]) -> str:
    word = as_text(cell).casefold().removeprefix("trialstate.")
    if word not in words:
        fix = f"Say in the map what it means, for example `status: {{failed: [{as_text(cell)}]}}`."
        raise _Refused("must be a known status: complete, stopped, failed or left_out", fix)
    return words[word]

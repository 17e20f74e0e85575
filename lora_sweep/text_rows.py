"""Rows of csv and JSON lines, each with the line on which it begins."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lora_sweep.errors import DataError


def csv_rows(path: str, text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """(the line on which it begins, from 1, and its fields) of every row that is not blank, the header included.

    Args:
        path: of the file, for messages.
        text: its content, line breaks as they stand there.
        separator: of fields, one character.

    Raises:
        DataError: the text is no well-formed csv.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    begins = 1
    while True:
        try:
            with _long_fields():
                row = next(reader, None)
        except csv.Error as error:
            ends = "" if reader.line_num <= begins else f", read up to line {reader.line_num}"
            rule = f"must be well-formed csv ({error}{ends})"
            fix = "A field that begins with a double quote must end with one, and quotes inside are doubled."
            raise DataError(f"{path}: line {begins}", rule, None, fix) from None
        if row is None:
            return
        if row:
            yield begins, row
        begins = reader.line_num + 1


def json_rows(path: str, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """(its line, from 1, and its object) of every line that is not blank.

    Args:
        path: of the file, for messages.
        text: its content.

    Raises:
        DataError: a line is no JSON object.
    """
    # not splitlines(): it also breaks at characters that JSON strings may hold
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            rule = f"must be one JSON object ({error.msg}, character {error.pos + 1})"
            raise DataError(f"{path}: line {number}", rule, line) from None
        if not isinstance(value, dict):
            raise DataError(f"{path}: line {number}", "must be one JSON object", value)
        yield number, value


@contextmanager
def _long_fields() -> Iterator[None]:
    """Lift csv's process-wide limit of 131,072 characters a field for a moment."""
    limit = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(limit)

"""Files to columns of Python values: csv, tsv, jsonl and parquet.

Nothing is guessed: every cell of a csv is text, `NA` and `null` included; jsonl and parquet keep their types.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from lora_sweep.errors import DataError
from lora_sweep.text_rows import csv_rows, json_rows

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")


@dataclass(frozen=True)
class Columns:
    """The wanted columns of a file.

    Attributes:
        values: column name to its values, one a data row.
        lines: the line on which each data row begins (1-based); None where a file has no lines.
    """

    values: Mapping[str, list[Any]]
    lines: list[int] | None = None


def read_columns(
    path: str, raw: bytes, wanted: Mapping[str, str], encoding: str = "utf-8", separator: str | None = None
) -> Columns:
    """Parse a file by its suffix.

    Args:
        path: of the file, for its suffix and for messages.
        raw: its content.
        wanted: key of `task` in the configuration to column name, e.g. `{"text": "tweet"}`.
        encoding: of text files.
        separator: between csv fields; by default a tab in `.tsv`, else a comma.

    Raises:
        DataError: unknown suffix, bad encoding, malformed content, or a column that is not there.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        rule = f"must be one of {', '.join(SUFFIXES)}"
        raise DataError(path, rule, suffix or None, "Convert the file, or rename it to say what it holds.")
    if suffix == ".parquet":
        return _read_parquet(path, raw, wanted)
    text = _decode(path, raw, encoding)
    if suffix == ".jsonl":
        return _read_jsonl(path, text, wanted)
    return _read_csv(path, text, wanted, separator or ("\t" if suffix == ".tsv" else ","))


def check_columns(path: str, found: Sequence[str], wanted: Mapping[str, str]) -> None:
    """Refuse a table that lacks a wanted column.

    Raises:
        DataError: with the columns that are there, and the likely one.
    """
    for key, column in wanted.items():
        if column in found:
            if list(found).count(column) > 1:
                raise DataError(
                    f"{path}: column {column}", "must stand in the header once", None, "Rename one of them."
                )
            continue
        folded = {name.strip().casefold(): name for name in found}
        close = [folded[name] for name in get_close_matches(column.casefold(), folded, n=1)]
        fix = f"Did you mean `{close[0]}`? Set task.{key} to it." if close else f"Set task.{key} to one of them."
        if len(found) == 1 and any(mark in found[0] for mark in ",;\t|"):
            fix = "The header is one single field: set task.data.separator to what separates the columns."
        raise DataError(f"{path}: column {column}", f"must exist (columns found: {', '.join(found)})", None, fix)


def _decode(path: str, raw: bytes, encoding: str) -> str:
    if encoding.lower().replace("_", "-") in ("utf-8", "utf8"):
        encoding = "utf-8-sig"  # drops the byte order mark that spreadsheets write
    try:
        return raw.decode(encoding)
    except LookupError:
        fix = "Use for example utf-8 or latin-1."
        raise DataError("task.data.encoding", "must be an encoding that Python knows", encoding, fix) from None
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        rule = f"must be {error.encoding} text (byte offset {error.start})"
        fix = "Set task.data.encoding to the file's, often `encoding: latin-1` or `encoding: cp1252`."
        raise DataError(f"{path}: line {line}", rule, raw[error.start : error.start + 1], fix) from None


def _read_csv(path: str, text: str, wanted: Mapping[str, str], separator: str) -> Columns:
    if len(separator) != 1:
        raise DataError("task.data.separator", "must be one character", separator)
    rows = csv_rows(path, text, separator)
    _, header = next(rows, (0, []))
    if not header:
        raise DataError(
            path, "must not be empty", None, "The first line names the columns, each further line is an example."
        )
    check_columns(path, header, wanted)
    lines: list[int] = []
    places = {column: header.index(column) for column in wanted.values()}
    values: dict[str, list[Any]] = {column: [] for column in places}
    for line, row in rows:
        if len(row) != len(header):
            place = f"{path}: row {len(lines) + 1} (line {line})"
            fix = "Put fields that hold separators, quotes or line breaks in double quotes."
            raise DataError(place, f"must have {len(header)} fields like the header", len(row), fix)
        lines.append(line)
        for column, index in places.items():
            values[column].append(row[index])
    return Columns(values, lines)


def _read_jsonl(path: str, text: str, wanted: Mapping[str, str]) -> Columns:
    rows = list(json_rows(path, text))
    objects = [row for _, row in rows]
    if objects:
        check_columns(path, list(dict.fromkeys(key for row in objects for key in row)), wanted)
    values = {column: [row.get(column) for row in objects] for column in wanted.values()}
    return Columns(values, [line for line, _ in rows])


def _read_parquet(path: str, raw: bytes, wanted: Mapping[str, str]) -> Columns:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(raw))
        check_columns(path, file.schema_arrow.names, wanted)
        table = file.read(columns=list(wanted.values()))
    except (pa.ArrowException, OSError) as error:
        raise DataError(path, f"must be a parquet file ({error})") from None
    return Columns({column: table[column].to_pylist() for column in wanted.values()})

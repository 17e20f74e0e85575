"""Files to tables: csv, tsv, jsonl and parquet, with every row's line for messages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_sweep.errors import DataError
from lora_sweep.importing.mapping import ImportMap
from lora_sweep.text_rows import csv_rows, json_rows

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
_SEPARATORS = ",;\t|"
_GUARDED = ("'=", "'+", "'-", "'@", "'\t", "'\n")
"""Beginnings of fields with the apostrophe that keeps spreadsheets from running them (our own tables have it too)."""


@dataclass(frozen=True)
class Table:
    """A file's content as it stands there.

    Attributes:
        path: of the file, for messages.
        cells: column to its cells, one a row: text in csv and tsv, typed values in jsonl and parquet.
        rows: how many.
        lines: the line on which each row begins, from 1; None where a file has no lines.
    """

    path: str
    cells: Mapping[str, Sequence[Any]]
    rows: int
    lines: Sequence[int] | None = None

    def place(self, column: str, row: int) -> str:
        """Where a cell stands, for messages; `row` counts from 0."""
        line = "" if self.lines is None else f" (line {self.lines[row]})"
        return f"{self.path}: column {column}, row {row + 1}{line}"


def read_table(path: Path, options: ImportMap) -> Table:
    """Read a whole table.

    Raises:
        DataError: the file is missing, of another kind, malformed or empty, or names a column twice.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        fix = "Convert the file, or rename it to say what it holds."
        raise DataError(str(path), f"must be one of {', '.join(SUFFIXES)}", suffix or None, fix)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(str(path), f"must be a file that can be read ({error.strerror})") from None
    if suffix == ".parquet":
        table = _from_parquet(path, raw)
    else:
        text = _decoded(path, raw, options.encoding)
        table = _from_jsonl(path, text) if suffix == ".jsonl" else _from_csv(path, text, options.separator)
    if not table.rows:
        raise DataError(str(path), "must hold at least one row of results")
    return table


def _decoded(path: Path, raw: bytes, encoding: str) -> str:
    if encoding.lower().replace("_", "-") in ("utf-8", "utf8"):
        encoding = "utf-8-sig"  # drops the byte order mark that spreadsheets write
    try:
        return raw.decode(encoding)
    except LookupError:
        raise DataError("encoding", "must be an encoding that Python knows", encoding) from None
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        fix = "Say `encoding: cp1252` (or latin-1, utf-16) in the map."
        raise DataError(f"{path}: line {line}", f"must be {error.encoding} text", None, fix) from None


def _from_csv(path: Path, text: str, separator: str | None) -> Table:
    rows = csv_rows(str(path), text, separator or _separator(path, text))
    _, header = next(rows, (0, []))
    names = _columns(path, [_unguarded(field) for field in header])
    lines: list[int] = []
    records: list[list[str]] = []
    for line, row in rows:
        if len(row) != len(names):
            place = f"{path}: row {len(lines) + 1} (line {line})"
            fix = "Put fields that hold separators or line breaks in double quotes, or say `separator:` in the map."
            raise DataError(place, f"must have {len(names)} fields like the header", len(row), fix)
        lines.append(line)
        records.append([_unguarded(field) for field in row])
    cells = dict(zip(names, zip(*records, strict=True), strict=True)) if records else {name: () for name in names}
    return Table(str(path), cells, len(lines), lines)


def _separator(path: Path, text: str) -> str:
    header = text.lstrip("\r\n").partition("\n")[0]
    return "\t" if path.suffix.lower() == ".tsv" else max(_SEPARATORS, key=header.count)


def _columns(path: Path, header: Sequence[str]) -> list[str]:
    names = [name.strip() for name in header]
    twice = next((name for name, times in Counter(names).items() if times > 1 and name), None)
    if twice is not None:
        raise DataError(f"{path}: column {twice}", "must stand in the header once", None, "Rename one of them.")
    # the index that pandas writes has no name
    return [name or f"column {place}" for place, name in enumerate(names, start=1)]


def _unguarded(field: str) -> str:
    return field[1:] if field.startswith(_GUARDED) else field


def _from_jsonl(path: Path, text: str) -> Table:
    rows = [(line, dict(_flat(value))) for line, value in json_rows(str(path), text)]
    names = dict.fromkeys(name for _, row in rows for name in row)
    cells = {name: [row.get(name) for _, row in rows] for name in names}
    return Table(str(path), cells, len(rows), [line for line, _ in rows])


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested objects as columns: `{"config": {"r": 8}}` has the column `config/r`."""
    for name, inner in value.items():
        if isinstance(inner, dict):
            yield from _flat(inner, f"{prefix}{name}/")
        else:
            yield prefix + name, inner


def _from_parquet(path: Path, raw: bytes) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        found = pq.read_table(pa.BufferReader(raw))
    except (pa.ArrowException, OSError) as error:
        raise DataError(str(path), f"must be a parquet file ({error})") from None
    names = _columns(path, found.column_names)
    return Table(str(path), {n: c.to_pylist() for n, c in zip(names, found.columns, strict=True)}, found.num_rows)

"""Tables of the columns that a task needs, and the places in them for messages."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_sweep.errors import DataError
from lora_sweep.tasks.encoded import Source
from lora_sweep.tasks.readers import Columns, check_columns, read_columns

if TYPE_CHECKING:
    from lora_sweep.task_config import DataConfig, TaskConfig

PARTS = ("train", "eval", "test")
COLUMN_KEYS = ("text", "label", "prompt", "response", "messages")


@dataclass(frozen=True)
class Table:
    """The needed columns of one file, or of one split of a hub data set.

    Attributes:
        stem: what the ids of its examples begin with.
        columns: column name to values.
        lines: where each row begins in the file; None where that is unknown.
        source: path, hash and size.
    """

    stem: str
    columns: Mapping[str, list[Any]]
    lines: list[int] | None
    source: Source

    def __len__(self) -> int:
        return self.source.examples

    def ids(self) -> list[str]:
        """`<stem>:<row>` of every example; rows count from 1."""
        return [f"{self.stem}:{row}" for row in range(1, len(self) + 1)]

    def place(self, index: int, column: str) -> str:
        """How a message names a cell."""
        line = "" if self.lines is None else f" (line {self.lines[index]})"
        return f"{self.source.path}: row {index + 1}{line}, column {column}"

    def texts(self, column: str) -> list[str]:
        """The column as text.

        Raises:
            DataError: a cell is missing, blank, not text, or not valid Unicode.
        """
        for index, value in enumerate(self.columns[column]):
            check_text(self.place(index, column), value)
        return self.columns[column]


def check_text(place: str, value: object) -> None:
    """Refuse what is not text with something in it.

    Raises:
        DataError: naming `place`.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        raise DataError(place, "must not be empty", value, "Fill it in, or remove the row.")
    if not isinstance(value, str):
        raise DataError(place, "must be text", value, "Write it as text, or name another column.")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise DataError(place, "must be valid Unicode (found half a surrogate pair)", value) from None


def read_tables(config: TaskConfig) -> dict[str, Table]:
    """Read every part of the data that the configuration gives.

    Args:
        config: the task; file paths absolute.

    Returns:
        `train`, and `eval` and `test` where given.

    Raises:
        DataError: a file is missing, empty, malformed, or lacks a column.
    """
    wanted = {key: column for key in COLUMN_KEYS if (column := getattr(config, key)) is not None}
    given: dict[str, str] = {part: name for part in PARTS if (name := getattr(config.data, part)) is not None}
    stems = {part: name if config.data.hub else Path(name).stem for part, name in given.items()}
    if len(set(stems.values())) < len(stems):  # train/data.csv and eval/data.csv
        stems = {part: f"{part}/{stem}" for part, stem in stems.items()}
    tables = {}
    for part, name in given.items():
        columns, source = (
            _read_hub(config.data, name, wanted) if config.data.hub else _read_file(config.data, name, wanted)
        )
        if not source.examples:
            raise DataError(source.path, "must hold at least one example", None, f"It is the data's {part} part.")
        tables[part] = Table(stems[part], columns.values, columns.lines, source)
    return tables


def _read_file(data: DataConfig, name: str, wanted: Mapping[str, str]) -> tuple[Columns, Source]:
    try:
        raw = Path(name).read_bytes()
    except OSError as error:
        raise DataError(name, f"must be a readable file ({error.strerror})") from None
    if not raw:
        raise DataError(name, "must not be empty")
    columns = read_columns(name, raw, wanted, data.encoding, data.separator)
    return columns, Source(name, hashlib.sha256(raw).hexdigest(), _rows(columns))


def _read_hub(data: DataConfig, split: str, wanted: Mapping[str, str]) -> tuple[Columns, Source]:
    import datasets

    place = f"hub:{data.hub}" + (f"/{data.subset}" if data.subset else "") + f"@{split}"
    try:
        dataset = datasets.load_dataset(data.hub, data.subset, split=split)
    except (OSError, ValueError) as error:  # not found, no connection, unknown subset or split
        fix = "Check task.data (hub, subset and split names) and the connection, or give files."
        raise DataError(place, f"must be a data set that can be loaded ({error})", None, fix) from None
    check_columns(place, dataset.column_names, wanted)
    values = {column: list(dataset[column]) for column in wanted.values()}
    for column, cells in values.items():
        feature = dataset.features[column]
        if isinstance(feature, datasets.ClassLabel):  # -1 stands for "not labelled"
            values[column] = [feature.int2str(cell) if cell is not None and cell >= 0 else None for cell in cells]
    columns = Columns(values)
    digest = hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()
    return columns, Source(place, digest, _rows(columns))


def _rows(columns: Columns) -> int:
    return len(next(iter(columns.values.values())))

"""Tables on the page: the leading rows as HTML, all further ones as data that the browser turns into rows in pages."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from markupsafe import Markup

from reports import units
from reports.page_json import script_json
from reports.results import Results
from reports.table import TableRow

PAGE_ROWS = 100
"""Rows that stand in the HTML, and that a page of the table shows."""

_MOST_KINDS = 6

Align = Literal["number", "text", "name"]


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        key: of its texts.
        title: its heading.
        hint: what else the heading means.
        align: `name` for the one whose cells head their rows.
        unit: of the numbers behind its texts, for the CSV file.
        as_text: whether the CSV file has its texts, because they say more than the number that they are sorted by.
    """

    key: str
    title: str
    hint: str = ""
    align: Align = "number"
    unit: str = ""
    as_text: bool = False


@dataclass(frozen=True)
class Cell:
    """One cell: what is read, and what is sorted by: a number as JSON writes it, a text, or nothing."""

    text: str
    sort_by: str


@dataclass(frozen=True)
class Row:
    """One line: its kind is a class of its style, its tags stand behind its name, its note is a tooltip."""

    kind: str
    cells: tuple[Cell, ...]
    note: str = ""
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class DataTable:
    """A table that sorts, filters and turns pages.

    Attributes:
        key: its id on the page and the name of its CSV file.
        label: what it holds, for those who cannot see it.
        columns: at least one.
        groups: heading and rows; each group is sorted in itself.
    """

    key: str
    label: str
    columns: tuple[Column, ...]
    groups: tuple[tuple[str, tuple[Row, ...]], ...]

    @property
    def total(self) -> int:
        return sum(len(rows) for _, rows in self.groups)

    @property
    def first(self) -> list[tuple[str, tuple[Row, ...]]]:
        """The groups with the rows that stand in the HTML; a group without such a row is there, empty."""
        left, found = PAGE_ROWS, []
        for heading, rows in self.groups:
            found.append((heading, rows[: max(0, left)]))
            left -= len(rows)
        return found

    @property
    def shown(self) -> int:
        """How many rows stand in the HTML."""
        return min(PAGE_ROWS, self.total)

    @property
    def rest(self) -> Markup:
        """The other rows as JSON: group, kind, note, tags, texts and what they are sorted by."""
        left, found = PAGE_ROWS, []
        for group, (_, rows) in enumerate(self.groups):
            found += [_packed(group, row) for row in rows[max(0, left) :]]
            left -= len(rows)
        return script_json(json.dumps(found, ensure_ascii=False, separators=(",", ":")))


def trials_table(rows: Sequence[TableRow], results: Results, picked: str | None) -> DataTable:
    """The table of trials and baselines, without the columns that say nothing.

    Args:
        rows: of `table_rows`.
        results: the run.
        picked: the picked trial.
    """
    columns = _trial_columns(rows, results)
    lines = [(row.kind, _trial_row(row, columns, row.kind != "baseline" and row.name == picked)) for row in rows]
    ranked = tuple(line for kind, line in lines if kind != "stopped")
    stopped = tuple(line for kind, line in lines if kind == "stopped")
    heading = "Stopped early by the scheduler: not ranked, their figures are those of the step they reached"
    groups = (("", ranked), (heading, stopped)) if stopped else (("", ranked),)
    return DataTable("trials-table", "Trials and baselines", columns, groups)


def failure_kinds(failed: Iterable[Mapping[Any, Any]]) -> str:
    """The kinds of errors with their numbers, commonest first: `OutOfMemoryError (3), ValueError (1)`."""
    kinds = Counter(str(row["error"] or "no reason on record").split(":")[0].strip()[:60] for row in failed)
    more = f" and {len(kinds) - _MOST_KINDS} other kinds" if len(kinds) > _MOST_KINDS else ""
    return ", ".join(f"{kind} ({number:,})" for kind, number in kinds.most_common(_MOST_KINDS)) + more


def failed_table(failed: Iterable[Mapping[Any, Any]]) -> DataTable:
    """The failed trials with their reasons."""
    columns = (
        Column("trial", "Trial", align="name"),
        Column("configuration", "Configuration", align="text"),
        Column("step", "Last step"),
        Column("reason", "Reason", align="text"),
    )
    rows = []
    for row in failed:
        made = f"rank {units.number(row['rank'])}, {row['target_label']}"
        step = units.number(row["reached_step"], 12)
        reason = row["error"] if isinstance(row["error"], str) else "no reason on record"
        texts = (str(row["trial_id"]), made, step, reason)
        rows.append(Row("plain", tuple(Cell(text, text) for text in texts)))
    return DataTable("failed-table", "Failed trials", columns, (("", tuple(rows)),))


def constants(rows: Sequence[TableRow]) -> list[tuple[str, str]]:
    """The settings that all trials share: said once, they need no column."""
    trials = [row for row in rows if row.kind != "baseline"]
    if len(trials) < 2:
        return []
    keys = ("rank", "dropout", "bias", "targets", "learning_rate", "batch_size")
    same = [(key, trials[0].texts[key]) for key in keys if len({row.texts[key] for row in trials}) == 1]
    return [(key, text) for key, text in same if text != units.MISSING]


def _trial_columns(rows: Sequence[TableRow], results: Results) -> tuple[Column, ...]:
    title = results.metric.title
    columns = [
        Column("quality", f"Eval {title}", "kept evaluation; it steered the search and the choice"),
        Column("interval", "95 % interval", "of this adapter, over evaluation examples; not over seeds", as_text=True),
        Column("test", f"Test {title}", "finalists, measured exports and baselines only; it steered nothing"),
        Column(
            "test_interval",
            "95 % on test",
            "over test examples, for all adapters measured at once",
            as_text=True,
        ),
        Column("rank", "Rank"),
        Column("alpha", "Alpha", "in brackets as a multiple of the rank"),
        Column("dropout", "Dropout"),
        Column("bias", "Biases", "trained, or those of the base as they are", align="text"),
        Column("targets", "Targets", align="text"),
        Column("learning_rate", "Rate", "peak learning rate"),
        Column("batch_size", "Batch"),
        Column("parameters", "Parameters", "trainable"),
        Column("share", "Of base", "trainable parameters over the base's"),
        Column("adapter", "Adapter", "size on disk", unit="bytes"),
        Column("device_time", "Device time", "the engine's time shared among its trials by FLOPs", unit="seconds"),
        Column("solo_time", "Alone", "time the trial would take alone on the device", unit="seconds"),
        Column("kept_step", "Kept step", "step of the evaluation that was kept: this figure, this adapter"),
        Column("step", "Last step", "to which it was trained"),
    ]
    same = dict(constants(rows))
    if all(row.kept_step == row.reached_step for row in rows):
        columns = [column for column in columns if column.key != "kept_step"]
    kept = [
        column
        for column in columns
        if column.key not in same and any(row.texts[column.key] != units.MISSING for row in rows)
    ]
    return (Column("place", "#"), Column("name", "Trial", align="name"), *kept)


def _trial_row(row: TableRow, columns: Sequence[Column], is_picked: bool) -> Row:
    numbers = {
        "quality": row.quality, "test": row.test_quality, "interval": _low(row.bounds),
        "test_interval": _low(row.test_bounds), "rank": row.rank, "alpha": row.alpha,
        "learning_rate": row.learning_rate, "parameters": row.trainable_parameters, "share": row.share,
        "adapter": row.adapter_bytes, "device_time": row.device_seconds, "solo_time": row.solo_seconds,
        "kept_step": float(row.kept_step) if row.kept_step else math.nan,
        "step": float(row.reached_step) if row.reached_step else math.nan,
    }  # fmt: skip
    place = "" if row.place is None else str(row.place)
    cells = [Cell(place, place), Cell(row.name, row.name)]
    for column in columns[2:]:
        text, value = row.texts[column.key], numbers.get(column.key)
        known = text if value is None else ("" if math.isnan(value) else repr(value))
        cells.append(Cell(text, "" if known == units.MISSING else known))
    tags = tuple(tag for tag, holds in (("pick", is_picked), ("tie", row.tied)) if holds)
    return Row(f"{row.kind} picked" if is_picked else row.kind, tuple(cells), row.note, tags)


def _low(bounds: tuple[float, float] | None) -> float:
    return math.nan if bounds is None else bounds[0]


def _packed(group: int, row: Row) -> list[object]:
    # most texts are sorted by themselves: not said twice
    keys = [None if cell.sort_by == cell.text else cell.sort_by for cell in row.cells]
    return [group, row.kind, row.note, list(row.tags), [cell.text for cell in row.cells], keys]

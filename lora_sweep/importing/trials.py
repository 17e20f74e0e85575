"""From a table's rows to trial records. What a row does not say is named as unknown, and never filled in."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lora_sweep.errors import DataError
from lora_sweep.importing.cells import read_cells, read_metric
from lora_sweep.importing.columns import Columns
from lora_sweep.importing.fields import FIELDS
from lora_sweep.importing.mapping import ImportMap
from lora_sweep.importing.tables import Table
from lora_sweep.records import Cost, EvalPoint, TrialConfig, TrialRecord

# these only qualify what `target_modules` says
_CONFIG = frozenset(TrialConfig.model_fields) - {"target_label", "rank_pattern", "alpha_pattern"}
_RECORD = frozenset(("step", *(name for name, one in FIELDS.items() if one.place == "record")))
_COST = frozenset(Cost.model_fields)
_POINT = ("train_loss", "tokens", "wall_seconds", "device_seconds")


@dataclass(frozen=True)
class Trials:
    """What a table's rows say.

    Attributes:
        records: one a trial, in the order of their first rows.
        tested: trial to its metrics on the test data, and `examples` where the table has them.
        rows_left_out: rows whose status says that they do not count.
        not_finite: metric to how many of its values were NaN or infinite.
        several_rows: whether some trial has more than one.
        has_status: whether a column says how trials ended.
    """

    records: tuple[TrialRecord, ...]
    tested: Mapping[str, Mapping[str, float]]
    rows_left_out: int
    not_finite: Mapping[str, int] = field(default_factory=dict)
    several_rows: bool = False
    has_status: bool = False


def read_trials(table: Table, columns: Columns, options: ImportMap) -> Trials:
    """Read every row.

    Raises:
        DataError: a cell breaks a rule, rows of one trial contradict each other, or a trial stands twice.
    """
    rows = _Rows(table, columns, options)
    groups: dict[str, list[int]] = {}
    for row, (name, status) in enumerate(zip(rows.names, rows.of("status"), strict=True)):
        if status != "left_out":
            groups.setdefault(name, []).append(row)
    if not groups:
        raise DataError(table.path, "must hold a trial that has ended", None, "No row says that it has.")
    records, tested = [], {}
    for name, places in groups.items():
        rows.check(name, places)
        records.append(_record(rows, name, rows.in_order(places), options))
        if found := _tested(rows, rows.in_order(places)):
            tested[name] = found
    kept = sum(len(places) for places in groups.values())
    return Trials(
        records=tuple(records),
        tested=tested,
        rows_left_out=table.rows - kept,
        not_finite=rows.not_finite,
        several_rows=kept > len(groups),
        has_status="status" in columns.of,
    )


class _Rows:
    """The parsed columns of a table."""

    def __init__(self, table: Table, columns: Columns, options: ImportMap) -> None:
        self.table, self.columns = table, columns
        self.metrics = [name for name in columns.of if name not in FIELDS]
        self.not_finite: Counter[str] = Counter()
        self._values: dict[str, Sequence[Any]] = {}
        for name, column in columns.of.items():
            if name in FIELDS:
                values = read_cells(table, column, FIELDS[name].kind, options)
            else:
                values = read_metric(table, column, name, options)
            if name not in FIELDS or FIELDS[name].kind == "metric":
                values = self._finite(name, values)
            self._values[name] = values
        self._nothing = [None] * table.rows
        width = len(str(table.rows))
        ids = self.of("trial_id")
        self.names = [f"row-{row + 1:0{width}d}" if one is None else one for row, one in enumerate(ids)]

    def of(self, name: str) -> Sequence[Any]:
        """A field's value in every row; None wherever it is unknown."""
        return self._values.get(name, self._nothing)

    def known(self, name: str, rows: Sequence[int]) -> list[Any]:
        """A field's known values in some rows."""
        values = self.of(name)
        return [values[row] for row in rows if values[row] is not None]

    def in_order(self, rows: Sequence[int]) -> list[int]:
        """Rows of one trial by their steps."""
        steps = self.of("step")
        return list(rows) if len(rows) < 2 else sorted(rows, key=lambda row: int(steps[row]))

    def check(self, name: str, rows: Sequence[int]) -> None:
        """Refuse rows of one trial that are not its evaluations at different steps, or contradict each other."""
        if len(rows) < 2:
            return
        column, steps = self.columns.of.get("trial_id", ""), self.of("step")
        seen: dict[Any, int] = {}
        for row in rows:
            if seen and (steps[row] in seen or None in (steps[row], *seen)):
                rule = "must be a trial's own, or come with a column of steps that differ"
                fix = "Say `columns: {trial_id: ..., step: ...}` in the map, or remove the row that does not count."
                raise DataError(self.table.place(column, row), rule, name, fix)
            seen[steps[row]] = row
        for field_name, one in FIELDS.items():
            # a logged learning rate follows its schedule
            if one.place == "config" and field_name != "learning_rate":
                self._check_equal(name, field_name, rows)

    def _check_equal(self, name: str, field_name: str, rows: Sequence[int]) -> None:
        values = self.of(field_name)
        known = [row for row in rows if values[row] is not None]
        for row in known[1:]:
            if values[row] != values[known[0]]:
                place = self.table.place(self.columns.of[field_name], row)
                rule = f"must be the same in every row of trial {name} (row {known[0] + 1} has {values[known[0]]!r})"
                raise DataError(place, rule, values[row], "Give each configuration a trial_id of its own.")

    def _finite(self, name: str, values: Sequence[float | None]) -> list[float | None]:
        found = [value if value is not None and math.isfinite(value) else None for value in values]
        lost = sum(value is not None for value in values) - sum(value is not None for value in found)
        if lost:
            self.not_finite[name] += lost
        return found


def _record(rows: _Rows, name: str, places: Sequence[int], options: ImportMap) -> TrialRecord:
    """One trial; `places` are its rows by step."""
    known: dict[str, Any] = {} if options.budget is None else {"steps": options.budget}
    known |= dict(_known(rows, places))
    kept = _kept_row(rows, places, options)
    metrics = {} if kept is None else _metrics(rows, kept)
    step = rows.of("step")[places[-1] if kept is None else kept]
    history = tuple(_history(rows, places))
    status = (rows.known("status", places) or [_deduced(rows, metrics, history, known.get("steps"))])[-1]
    error = (rows.known("error", places) or [_no_reason(rows, places) if status == "failed" else None])[-1]
    known |= {} if step is None else {"step": step}
    return TrialRecord(
        trial_id=name,
        status=status,
        config=TrialConfig(**{key: known[key] for key in _CONFIG & known.keys()}),
        metrics=metrics,
        history=history,
        cost=Cost(**{key: known[key] for key in _COST & known.keys()}),
        error=error,
        unknown=tuple(sorted((_CONFIG | _RECORD | _COST) - known.keys())),
        **{key: known[key] for key in _RECORD & known.keys()},
    )


def _known(rows: _Rows, places: Sequence[int]) -> Iterator[tuple[str, Any]]:
    """The trial's settings and costs that some row says; of costs, which grow, the last."""
    for name, one in FIELDS.items():
        values = rows.known(name, places)
        if values and one.place != "trial":
            yield name, max(values) if name == "learning_rate" else values[-1]


def _kept_row(rows: _Rows, places: Sequence[int], options: ImportMap) -> int | None:
    """The row whose figures count; None where none has the metric."""
    values = rows.of(rows.columns.metric)
    known = [row for row in places if values[row] is not None]
    if not known:
        return None
    if options.metric.keep == "last":
        return known[-1]
    best = max if rows.columns.mode == "max" else min
    # the earliest of equals, as in this package's own sweeps
    return best(known, key=lambda row: values[row])


def _metrics(rows: _Rows, row: int) -> dict[str, float]:
    found = {name: rows.of(name)[row] for name in rows.metrics if not name.startswith("test_")}
    return {name: value for name, value in found.items() if value is not None}


def _history(rows: _Rows, places: Sequence[int]) -> Iterator[EvalPoint]:
    """An evaluation for every row that has a step, and the last step that was trained where that is known."""
    last = -1
    for row in places:
        step = rows.of("step")[row]
        own = {name: rows.of(name)[row] for name in _POINT}
        metrics = _metrics(rows, row)
        if step is not None and (metrics or own["train_loss"] is not None):
            yield EvalPoint(step=step, metrics=metrics, **{key: one for key, one in own.items() if one is not None})
            last = step
    reached = rows.known("reached_step", places)
    if reached and reached[-1] > last:
        yield EvalPoint(step=reached[-1], metrics={})


def _deduced(rows: _Rows, metrics: Mapping[str, float], history: Sequence[EvalPoint], steps: int | None) -> str:
    """How a trial ended where no column says it: without a figure it failed, short of its budget it was stopped."""
    if rows.columns.metric not in metrics:
        return "failed"
    return "stopped" if steps is not None and history and history[-1].step < steps else "complete"


def _no_reason(rows: _Rows, places: Sequence[int]) -> str:
    if rows.known("status", places):
        return "the table gives no reason"
    return f"the table has no {rows.columns.metric} for it"


def _tested(rows: _Rows, places: Sequence[int]) -> dict[str, float]:
    """The last known metrics on the test data, and the number of examples where the table has it."""
    found = {}
    for name in rows.metrics:
        values = rows.known(name, places) if name.startswith("test_") else []
        if values:
            found[name.removeprefix("test_")] = values[-1]
    examples = rows.known("test_examples", places)
    return found | ({"examples": examples[-1]} if found and examples else {})

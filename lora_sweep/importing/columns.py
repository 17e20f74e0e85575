"""Which column of a table holds which fact: as the map says, else by the names that other tools use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lora_sweep.errors import ConfigError, DataError
from lora_sweep.importing.fields import FIELDS, METRIC_MODES, UNNAMED, Mode, folded, metric_names
from lora_sweep.importing.mapping import ImportMap
from lora_sweep.importing.tables import Table
from search_spaces.errors import hint


@dataclass(frozen=True)
class Columns:
    """What was found in a table.

    Attributes:
        metric, mode: the metric that chose.
        of: field or metric (`accuracy`, `test_accuracy`) to its column.
        unused: columns that hold nothing that is asked for.
    """

    metric: str
    mode: Mode
    of: Mapping[str, str]
    unused: tuple[str, ...]


def find_columns(table: Table, options: ImportMap) -> Columns:
    """Find every field and metric that the table has.

    Raises:
        ConfigError: the map names a column that is not there, or the metric's mode is needed.
        DataError: the table has no metric.
    """
    _check_named(table, options)
    asked = {field: column for field, column in options.columns.items() if column is not None}
    free = [name for name in table.cells if name not in asked.values()]
    wanted = {name: field.names for name, field in FIELDS.items()}
    for metric in options.metrics():
        wanted |= {metric: metric_names(metric), f"test_{metric}": metric_names(f"test_{metric}")}
    of = dict(asked)
    for field, names in wanted.items():
        if field not in options.columns and (column := _recognised(field, names, free)) is not None:
            of[field] = column
            free.remove(column)
    metric = _metric(table, options, of, free)
    return Columns(metric, _mode(options, metric), of, tuple(free))


def _check_named(table: Table, options: ImportMap) -> None:
    for field, column in options.columns.items():
        if column is not None and column not in table.cells:
            fix = hint(column, table.cells, "Columns found")
            raise ConfigError(f"columns.{field}", f"must be a column of {table.path}", column, fix)


def _recognised(field: str, names: Sequence[str], columns: Iterable[str]) -> str | None:
    """The likeliest column: settings under a prefix such as `config/` first, then in the order of the names."""
    found = []
    for column in columns:
        name, prefixed = folded(column)
        # `config/name` names a configuration, and no trial
        if name in names and not (prefixed and field in FIELDS and FIELDS[field].place == "trial"):
            found.append((not prefixed, names.index(name), column))
    return min(found)[2] if found else None


def _metric(table: Table, options: ImportMap, of: dict[str, str], free: list[str]) -> str:
    """The metric's name; a column such as Optuna's `value` is taken for it where the map names it."""
    name = options.metric.name or next((one for one in METRIC_MODES if one in of), None)
    unnamed = next((column for column in free if folded(column)[0] in UNNAMED), None)
    if name is not None and name not in of and unnamed is not None:
        of[name] = unnamed
        free.remove(unnamed)
    if name is not None and name in of:
        return name
    if unnamed is not None:
        fix = "Name it in the map, for example `metric: {name: accuracy, mode: max}`."
        raise DataError(f"{table.path}: column {unnamed}", "must have a name that says what it measures", None, fix)
    wanted = name or " or ".join(METRIC_MODES)
    fix = f"Say in the map which column it is: `columns: {{{name or 'accuracy'}: COLUMN}}`."
    rule = f"must have a column with {wanted} (columns found: {', '.join(table.cells)})"
    raise DataError(table.path, rule, None, fix)


def _mode(options: ImportMap, metric: str) -> Mode:
    mode = options.metric.mode or METRIC_MODES.get(metric)
    if mode is None:
        raise ConfigError("metric.mode", f"is required for {metric}", None, "Say max where more is better, else min.")
    return mode

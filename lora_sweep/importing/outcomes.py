"""Answers on single examples, from a table of them: with these trials can be compared example by example."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_sweep.errors import DataError
from lora_sweep.importing.cells import as_text, read_cells, says_nothing
from lora_sweep.importing.fields import OUTCOME_FIELDS, Kind
from lora_sweep.importing.mapping import ImportMap
from lora_sweep.importing.tables import Table, read_table
from lora_sweep.records import TrialRecord
from search_spaces.errors import hint

if TYPE_CHECKING:
    import pandas as pd

_SPLITS = {"eval": "eval", "val": "eval", "valid": "eval", "validation": "eval", "dev": "eval", "test": "test"}
_HITS = {"1": 1, "0": 0, "true": 1, "false": 0, "yes": 1, "no": 0}
_WAYS = (("label", "prediction"), ("nll_sum", "tokens"), ("correct",))


@dataclass(frozen=True)
class OutcomeTable:
    """Outcomes on examples.

    Attributes:
        frame: trial_id, example_id, split, and (label, prediction), (nll_sum, tokens) or (correct).
        labels: names of the classes in the order of their numbers; empty without labels.
    """

    frame: pd.DataFrame
    labels: tuple[str, ...]

    def of(self, records: Sequence[TrialRecord]) -> Iterator[tuple[str, pd.DataFrame]]:
        """Each trial's outcomes as the run folder keeps them."""
        steps = {record.trial_id: record.step for record in records}
        for name, rows in self.frame.groupby("trial_id", sort=False):
            own = rows.drop(columns="trial_id").reset_index(drop=True)
            own.insert(2, "step", [0 if split == "test" else steps[str(name)] for split in own["split"]])
            yield str(name), own


def read_outcome_table(file: Path, options: ImportMap, trials: Sequence[str]) -> OutcomeTable:
    """Read and check a file of outcomes.

    Args:
        file: csv, tsv, jsonl or parquet.
        options: its `outcomes` names the columns; what it leaves out is called as the field.
        trials: the trials of the table.

    Raises:
        DataError: a column is missing, a cell breaks a rule, or a trial is not in the table of trials.
    """
    import pandas as pd

    table = read_table(file, options)
    columns = {name: options.outcomes.get(name, name) for name in OUTCOME_FIELDS}
    way = next((way for way in _WAYS if all(columns[name] in table.cells for name in way)), None)
    if way is None:
        rule = "must have the columns correct, or label and prediction, or nll_sum and tokens"
        fix = f"Columns found: {', '.join(table.cells)}. Say under `outcomes:` in the map what they mean."
        raise DataError(str(file), rule, None, fix)
    split = columns["split"] in table.cells
    read: dict[str, Any] = {
        "trial_id": _trial_ids(table, columns["trial_id"], set(trials)),
        "example_id": [as_text(cell) for cell in _full(table, columns["example_id"])],
        "split": _words(table, columns["split"], _SPLITS, "eval or test") if split else ["eval"] * table.rows,
    }
    labels: tuple[str, ...] = ()
    if way == ("label", "prediction"):
        labels, coded = _coded({name: _full(table, columns[name]) for name in way})
        read |= coded
    elif way == ("correct",):
        read["correct"] = _words(table, columns["correct"], _HITS, "1 or 0, true or false")
    else:
        read["nll_sum"] = _numbers(table, columns["nll_sum"], "metric", options)
        read["tokens"] = _numbers(table, columns["tokens"], "whole", options)
    return OutcomeTable(pd.DataFrame(read), labels)


def _trial_ids(table: Table, column: str, trials: set[str]) -> list[str]:
    names = [as_text(cell) for cell in _full(table, column)]
    for row, name in enumerate(names):
        if name not in trials:
            fix = hint(name, sorted(trials)[:5], "Its first trials")
            raise DataError(table.place(column, row), "must be a trial of the table of results", name, fix)
    return names


def _full(table: Table, column: str) -> Sequence[Any]:
    """A column without an empty cell."""
    if column not in table.cells:
        fix = f"Columns found: {', '.join(table.cells)}. Say under `outcomes:` in the map what they mean."
        raise DataError(table.path, f"must have the column {column}", None, fix)
    for row, cell in enumerate(table.cells[column]):
        if says_nothing(cell):
            raise DataError(table.place(column, row), "must not be empty", cell)
    return table.cells[column]


def _words(table: Table, column: str, words: Mapping[str, Any], rule: str) -> list[Any]:
    found = []
    for row, cell in enumerate(_full(table, column)):
        word = as_text(cell).casefold()
        if word not in words:
            raise DataError(table.place(column, row), f"must be {rule}", cell)
        found.append(words[word])
    return found


def _numbers(table: Table, column: str, kind: Kind, options: ImportMap) -> list[Any]:
    _full(table, column)
    return read_cells(table, column, kind, options)


def _coded(cells: Mapping[str, Sequence[Any]]) -> tuple[tuple[str, ...], dict[str, list[int]]]:
    """Labels and predictions as numbers of the classes, which are ordered by number where they are numbers."""
    texts = {name: [as_text(cell) for cell in column] for name, column in cells.items()}
    names = {text for column in texts.values() for text in column}
    numeric = all(name.isdigit() for name in names)
    ordered = tuple(sorted(names, key=lambda name: (int(name) if numeric else 0, name)))
    place = {name: number for number, name in enumerate(ordered)}
    return ordered, {name: [place[text] for text in column] for name, column in texts.items()}

"""Classification: one label for each text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING

import numpy as np

from lora_sweep.errors import DataError
from lora_sweep.tasks.data import Table
from lora_sweep.tasks.encoded import EncodedSplit, flatten
from lora_sweep.tasks.splits import Examples
from lora_sweep.tasks.tokenise import token_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MOST_CLASSES = 1_000


def read_classification(
    tables: Mapping[str, Table], text: str, label: str
) -> tuple[dict[str, Examples], tuple[str, ...]]:
    """Check the tables and find the classes.

    Args:
        tables: by part; `train` is there.
        text: the text column.
        label: the label column.

    Returns:
        The examples of each part, and the classes of the training data in their order.

    Raises:
        DataError: a bad text or label, a class that the training data lacks, or no sensible set of classes.
    """
    parts = {
        part: Examples(table.source.path, table.ids(), table.texts(text), labels=read_labels(table, label))
        for part, table in tables.items()
    }
    classes = order_labels(parts["train"].labels or ())
    _check_classes(tables["train"], label, classes)
    for part, table in tables.items():
        _check_known(table, label, parts[part].labels or (), classes)
    return parts, classes


def read_labels(table: Table, column: str) -> list[str]:
    """The labels as text without surrounding white space; whole numbers without a fraction (`1.0` in parquet is `1`).

    Raises:
        DataError: a label is missing, or neither text nor a whole number.
    """
    labels = []
    for index, value in enumerate(table.columns[column]):
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        text = str(value).strip() if isinstance(value, str | int) else ""
        if not text:
            missing = value is None or value != value or isinstance(value, str)
            rule = "must have a label" if missing else "must be text or a whole number"
            raise DataError(table.place(index, column), rule, value, "Fill it in, or remove the row.")
        labels.append(text)
    return labels


def order_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """The distinct labels: by number when all are whole numbers, else by text."""
    distinct = sorted(set(labels))
    if all(re.fullmatch(r"[+-]?[0-9]+", label) for label in distinct):
        distinct.sort(key=int)
    return tuple(distinct)


def encode_classification(
    examples: Examples, name: str, tokenizer: PreTrainedTokenizerBase, max_length: int, classes: Sequence[str]
) -> tuple[EncodedSplit, tuple[str, ...]]:
    """Tokenise; a text that is too long loses its end.

    Args:
        examples: one part, with labels among `classes`.
        name: of the part.
        tokenizer: its special tokens are added.
        max_length: most tokens, special ones included.
        classes: give the label indices.

    Raises:
        DataError: a text without any token.
    """
    room = max_length - tokenizer.num_special_tokens_to_add(pair=False)
    if room < 1:
        raise DataError("task.max_length", f"must be at least {max_length - room + 1} with this tokenizer", max_length)
    rows = token_ids(tokenizer, examples.texts, specials=True)
    long = [index for index, row in enumerate(rows) if len(row) > max_length]
    cut = token_ids(tokenizer, [examples.texts[index] for index in long], specials=True, max_length=max_length)
    for index, row in zip(long, cut, strict=True):
        rows[index] = row
    empty = next((index for index, row in enumerate(rows) if not row), None)
    if empty is not None:
        place = f"{examples.source}: example {examples.ids[empty]}"
        raise DataError(place, "must have at least one token", examples.texts[empty], "Remove the row.")
    tokens, offsets = flatten(rows)
    index_of = {label: index for index, label in enumerate(classes)}
    labels = np.array([index_of[label] for label in examples.labels or ()], dtype=np.int64)
    note = f"{len(long):,} of {len(rows):,} {name} examples were cut at {max_length} tokens (task.max_length)."
    return EncodedSplit(name, tokens, offsets, labels, None, np.array(examples.ids)), (note,) if long else ()


def _check_classes(train: Table, column: str, classes: Sequence[str]) -> None:
    place, fix = f"{train.source.path}: column {column}", "Is it the label column? Set task.label to the right one."
    if len(classes) == 1:
        raise DataError(place, "must hold at least 2 classes", classes[0], fix)
    if len(classes) > MOST_CLASSES:
        raise DataError(place, f"must hold at most {MOST_CLASSES:,} classes", len(classes), fix)
    if len(classes) == len(train):
        raise DataError(place, "must hold fewer classes than examples (every label is different)", len(classes), fix)


def _check_known(table: Table, column: str, labels: Iterable[str], classes: Sequence[str]) -> None:
    known = set(classes)
    for index, label in enumerate(labels):
        if label not in known:
            shown = ", ".join(classes[:20]) + (f", ... {len(classes) - 20} more" if len(classes) > 20 else "")
            close = get_close_matches(label, classes, n=1)
            fix = f"Did you mean `{close[0]}`? " if close else ""
            rule = f"must be a label of the training data ({shown})"
            raise DataError(
                table.place(index, column), rule, label, fix + "Correct it, or add training examples of it."
            )

"""MAP.yaml: what the columns of a table mean, where their names do not say it (docs/import.md)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from lora_sweep.errors import ConfigError
from lora_sweep.importing.fields import FIELDS, METRIC_MODES, OUTCOME_FIELDS, Mode
from lora_sweep.records import Record
from lora_sweep.validation import UNKNOWN, Count, Text, as_config_error, from_pydantic
from search_spaces.errors import SpaceError, hint
from search_spaces.texts import read_yaml

Scale = Literal["fraction", "percent"]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")]


class MetricMap(Record):
    """The metric that the other sweep was after.

    Attributes:
        name: one of accuracy, macro_f1, loss, perplexity, or another in letters, digits and _; by default the first
            of those four that the table has.
        mode: whether larger or smaller is better; needed where the name is none of those four.
        keep: with several rows a trial, which of them counts: the last, or the one with the best value.
    """

    name: Name | None = None
    mode: Mode | None = None
    keep: Literal["best", "last"] = "last"


class StatusMap(Record):
    """What the words of the status column mean; other tools' usual words are known without it."""

    complete: tuple[Text, ...] = ()
    stopped: tuple[Text, ...] = ()
    failed: tuple[Text, ...] = ()
    left_out: tuple[Text, ...] = ()


class ExamplesMap(Record):
    """On how many examples the figures were measured."""

    eval: Count | None = None
    test: Count | None = None


class ImportMap(Record):
    """A whole MAP.yaml.

    Attributes:
        columns: field to column; null says that the table has no such column.
        metric: what was optimised.
        status: words of the status column.
        examples: sizes of the evaluation and the test data, which intervals need.
        outcomes: the same for the file of outcomes on examples.
        budget: steps of the full budget, where no column says it: trials that fell short of it were stopped.
        scale: metric (or `test_METRIC`) to `percent`, where 73.5 means 0.735.
        model: name of the base, for the page.
        encoding: of csv, tsv and jsonl files.
        separator: between the fields of a csv file; by default what its header holds most of.
        decimal: the decimal mark of numbers in text.
    """

    columns: Mapping[str, Text | None] = Field(default_factory=dict)
    metric: MetricMap = MetricMap()
    status: StatusMap = StatusMap()
    examples: ExamplesMap = ExamplesMap()
    outcomes: Mapping[str, Text] = Field(default_factory=dict)
    budget: Count | None = None
    scale: Mapping[str, Scale] = Field(default_factory=dict)
    model: Text | None = None
    encoding: Text = "utf-8"
    separator: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    decimal: Literal[".", ","] = "."

    def metrics(self) -> tuple[str, ...]:
        """The metrics that the table may hold: those known by name, and the map's own."""
        own = self.metric.name
        return (*METRIC_MODES, *([own] if own and own not in METRIC_MODES else []))


def load_map(file: Path | None) -> ImportMap:
    """Read and check a MAP.yaml; without one, an empty map.

    Raises:
        ConfigError: it is not there, is no YAML, or breaks a rule.
    """
    if file is None:
        return ImportMap()
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(str(file), f"must be a YAML file that can be read ({reason})") from None
    return parse_map(text, file.name)


def parse_map(text: str, place: str) -> ImportMap:
    """Check the text of a MAP.yaml.

    Raises:
        ConfigError: it is no YAML, or breaks a rule.
    """
    try:
        raw: Any = read_yaml(text, place)
    except SpaceError as error:
        raise as_config_error(error) from None
    if not isinstance(raw, Mapping):
        raise ConfigError(place, "must hold keys such as `columns:`", raw)
    try:
        found = ImportMap.model_validate(raw)
    except ValidationError as error:
        raise from_pydantic(error, ImportMap, f"{place}: ") from None
    known = [*FIELDS, *(prefix + name for name in found.metrics() for prefix in ("", "test_"))]
    _check_keys(f"{place}: columns", found.columns, dict.fromkeys(known))
    _check_keys(f"{place}: outcomes", found.outcomes, OUTCOME_FIELDS)
    _check_keys(f"{place}: scale", found.scale, [name for name in dict.fromkeys(known) if name not in FIELDS])
    return found


def _check_keys(place: str, keys: Iterable[str], known: Iterable[str]) -> None:
    options = list(known)
    for key in keys:
        if key not in options:
            fix = hint(key, options, "Known keys")
            fix += " Another metric is known once metric.name says it." if "accuracy" in options else ""
            raise ConfigError(f"{place}.{key}", UNKNOWN, None, fix)

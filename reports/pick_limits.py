"""What a picked adapter must keep to: its size, its latency, its quality."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lora_sweep.errors import ConfigError
from reports import units
from reports.candidates import measured
from reports.metric import Metric
from reports.pick_cost import COSTS

_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([kmg]?)b?", re.IGNORECASE)
_TIMES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
_MEASURE = "`lora-sweep analyze RUN --top N` measures the latency of the N leading trials."


@dataclass(frozen=True)
class Limit:
    """One limit.

    Attributes:
        option: of the command line.
        column: of `candidate_frame`.
        bound: in the column's unit.
        given: what the user gave.
        at_most: whether it is the most that is allowed, or the least.
        say: writes a value of the column with its noun.
    """

    option: str
    column: str
    bound: float
    given: object
    at_most: bool
    say: Callable[[float], str]

    @property
    def text(self) -> str:
        """`at most 300k parameters`."""
        return f"{'at most' if self.at_most else 'at least'} {self.say(self.bound)}"

    def fits(self, rows: pd.DataFrame) -> pd.Series[bool]:
        """Which rows keep to it; one whose value was not measured does not."""
        values = measured(rows, self.column)
        return values <= self.bound if self.at_most else values >= self.bound


@dataclass(frozen=True)
class Limits:
    """All limits of a pick; None sets none.

    Attributes:
        max_parameters: most trainable parameters, at least 1.
        max_bytes: most bytes of the adapter's weights file, at least 1.
        max_latency_ms: longest median of an unmerged pass over the smallest batch timed, in milliseconds, above 0.
        min_quality: the least of the run's metric on the evaluation data; the most where lower is better.
    """

    max_parameters: int | None = None
    max_bytes: int | None = None
    max_latency_ms: float | None = None
    min_quality: float | None = None

    def rules(self, metric: Metric) -> tuple[Limit, ...]:
        """The limits that are set.

        Raises:
            ConfigError: one is out of its range.
        """
        self._check(metric)
        low_is_good = metric.mode == "min"

        def quality(value: float) -> str:
            return f"{metric.text(value)} {metric.title} on the evaluation data"

        latency = None if self.max_latency_ms is None else self.max_latency_ms / 1000
        rules = (
            ("--max-parameters", "parameters", self.max_parameters, self.max_parameters),
            ("--max-bytes", "bytes", self.max_bytes, self.max_bytes),
            ("--max-latency", "latency", latency, self.max_latency_ms),
        )
        found = [
            Limit(option, COSTS[name].column, bound, given, True, COSTS[name].text)
            for option, name, bound, given in rules
            if bound is not None
        ]
        if self.min_quality is not None:
            found.append(Limit("--min-quality", "quality", self.min_quality, self.min_quality, low_is_good, quality))
        return tuple(found)

    def within(self, pool: pd.DataFrame, metric: Metric) -> pd.DataFrame:
        """The candidates that keep to every limit.

        Raises:
            ConfigError: none does; it names the limit that leaves none and who comes nearest to it.
        """
        room = pool
        for number, limit in enumerate(self.rules(metric)):
            fits = limit.fits(room)
            if not fits.any():
                raise ConfigError(
                    limit.option, "must leave at least one candidate", limit.given, _nearest(room, limit, number > 0)
                )
            room = room[fits]
        return room

    def check(self, row: Mapping[str, Any], metric: Metric) -> None:
        """Hold one candidate, asked for by name, to the limits.

        Raises:
            ConfigError: it breaks one.
        """
        for limit in self.rules(metric):
            if not limit.fits(pd.DataFrame([row])).iloc[0]:
                rule = f"must have room for {row['trial_id']} with {_exactly(limit, row[limit.column])}"
                raise ConfigError(limit.option, rule, limit.given, "Leave out one of the two.")

    def _check(self, metric: Metric) -> None:
        options = (
            ("--max-parameters", self.max_parameters), ("--max-bytes", self.max_bytes),
            ("--max-latency", self.max_latency_ms),
        )  # fmt: skip
        for option, value in options:
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(option, "must be above 0", value)
        least = self.min_quality
        if metric.is_proportion and least is not None and not 0 <= least <= 1:
            fix = f"{metric.title.capitalize()} is a share: write 0.7 or 70%."
            raise ConfigError("--min-quality", "must be between 0 and 1", least, fix)


NO_LIMITS = Limits()


def parse_amount(text: str, option: str) -> int:
    """A number such as `300000`, `300k`, `4M` or `1MB` (decimal units).

    Raises:
        ConfigError: it is none, or less than 1.
    """
    found = _AMOUNT.fullmatch(text.strip())
    amount = round(float(found[1]) * _TIMES[found[2].lower()]) if found else 0
    if amount < 1:
        raise ConfigError(option, "must be a number of at least 1, such as 300k or 4M", text)
    return amount


def parse_quality(text: str) -> float:
    """A metric's value such as `0.7`, `70%` or `2.31`.

    Raises:
        ConfigError: it is none.
    """
    number, percent, rest = text.strip().partition("%")
    try:
        value = float(number) / (100 if percent else 1)
    except ValueError:
        value = math.nan
    if rest or not math.isfinite(value):
        raise ConfigError("--min-quality", "must be a value of the metric, such as 0.7 or 70%", text)
    return value


def _nearest(room: pd.DataFrame, limit: Limit, limited: bool) -> str:
    known = measured(room, limit.column).dropna()
    if known.empty and limit.column == "latency_seconds":
        return f"No candidate has a measured latency. {_MEASURE}"
    if known.empty:
        return "No candidate has this on record."
    place = int(known.argmin() if limit.at_most else known.argmax())
    name = room["trial_id"].loc[known.index].iloc[place]
    among = "Of those within the other limits, the nearest" if limited else "The nearest"
    text = f"{among} is {name} with {_exactly(limit, float(known.iloc[place]))}."
    if limit.column == "latency_seconds" and len(known) < len(room):
        text += f" {units.plural(len(room) - len(known), 'candidate')} were not timed. {_MEASURE}"
    return text


def _exactly(limit: Limit, value: float) -> str:
    """A size in full: rounded, it could look as if it fitted."""
    nouns = {"trainable_parameters": "parameters", "adapter_bytes": "bytes"}
    if math.isnan(value):
        return "an unknown value"
    return f"{int(value):,} {nouns[limit.column]}" if limit.column in nouns else limit.say(value)

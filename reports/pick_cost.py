"""What "cheapest" means in a pick: one cost of a candidate, or several with weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

import pandas as pd

from lora_sweep.errors import ConfigError
from reports import units
from reports.candidates import measured


@dataclass(frozen=True)
class Cost:
    """One cost.

    Attributes:
        column: of `candidate_frame`.
        least: what the cheapest has, for a sentence.
        noun: what it is, put behind a value.
        say: writes a value.
    """

    column: str
    least: str
    noun: str
    say: Callable[[float], str]

    def text(self, value: float) -> str:
        """A value with its noun: `149k parameters`."""
        return f"{self.say(value)} {self.noun}".rstrip()


def milliseconds(seconds: float) -> str:
    """A latency: `9.54 ms`."""
    return f"{units.number(1000 * seconds)} ms"


COSTS = MappingProxyType(
    {
        "parameters": Cost("trainable_parameters", "fewest trainable parameters", "parameters", units.count),
        "bytes": Cost("adapter_bytes", "smallest adapter", "on disk", units.size),
        "latency": Cost("latency_seconds", "lowest unmerged latency", "a pass", milliseconds),
        "memory": Cost("state_bytes", "smallest training state", "of training state", units.size),
        "train-time": Cost("device_seconds", "least device time", "of device time", units.duration),
    }
)
"""The costs by the names that `--cost` takes."""


@dataclass(frozen=True)
class CostRule:
    """One cost, or several with weights.

    Attributes:
        weights: name and weight, above 0, of each cost that counts.
    """

    weights: tuple[tuple[str, float], ...] = (("parameters", 1.0),)

    @classmethod
    def parse(cls, text: str) -> CostRule:
        """Read `latency` or `parameters=0.5,latency=0.5`.

        Raises:
            ConfigError: a name is unknown or stands twice, or a weight is missing or not above 0.
        """
        parts = [part.partition("=") for part in text.split(",")]
        names = [name.strip() for name, _, _ in parts]
        for name in names:
            if name not in COSTS:
                raise ConfigError("--cost", f"must be of {', '.join(COSTS)}", name)
            if names.count(name) > 1:
                raise ConfigError("--cost", f"must name {name} once", text)
        if len(parts) == 1 and not parts[0][1]:
            return cls(((names[0], 1.0),))
        return cls(tuple((name, _weight(part[2], text)) for name, part in zip(names, parts, strict=True)))

    @property
    def single(self) -> Cost | None:
        """The only cost; None where several are weighted."""
        return COSTS[self.weights[0][0]] if len(self.weights) == 1 else None

    @property
    def costs(self) -> tuple[Cost, ...]:
        """The costs that count."""
        return tuple(COSTS[name] for name, _ in self.weights)

    @property
    def formula(self) -> str:
        """`latency`, or `0.5 parameters + 0.5 latency`."""
        if self.single is not None:
            return self.weights[0][0]
        return " + ".join(f"{weight:g} {name}" for name, weight in self.weights)

    @property
    def remedy(self) -> str:
        """What to do where it was measured for nobody."""
        if self.includes("latency"):
            return "`lora-sweep analyze RUN --top N` measures the latency of the N leading trials; cuts are not timed."
        return "The records of this run do not hold it."

    def includes(self, name: str) -> bool:
        """Whether this cost counts."""
        return name in dict(self.weights)

    def values(self, rows: pd.DataFrame) -> pd.Series[float]:
        """What each row costs: the cost itself, or sum_k w_k c_k / max(c_k) with the largest among these rows.

        NaN where one of the costs was not measured.
        """
        if self.single is not None:
            return measured(rows, self.single.column)
        total = pd.Series(0.0, index=rows.index)
        for name, weight in self.weights:
            values = measured(rows, COSTS[name].column)
            largest = values.max()
            # where all are 0, they say nothing
            total += weight * (values / largest if largest > 0 else values)
        return total

    def text(self, row: pd.Series[float] | dict[str, float], value: float) -> str:
        """The value of a row for people."""
        if self.single is not None:
            return self.single.say(value)
        parts = ", ".join(cost.text(row[cost.column]) for cost in self.costs)
        return f"{units.number(value)}: {parts}"


PARAMETERS = CostRule()
"""The default: the fewest trainable parameters."""


def _weight(text: str, whole: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not 0 < weight < math.inf:
        fix = "Write a weight for each, such as parameters=0.5,latency=0.5."
        raise ConfigError("--cost", "must have weights above 0", whole, fix)
    return weight

"""The metric that chose the kept evaluations: its name, its direction and how its values are written."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from reports import units

Mode = Literal["max", "min"]

PROPORTIONS = frozenset({"accuracy"})
"""Metrics that are a share of examples, so that a binomial interval holds for them."""

_LOWER_IS_BETTER = ("loss", "perplexity", "nll", "error")


@dataclass(frozen=True)
class Metric:
    """One quality metric.

    Attributes:
        name: its key in the records, e.g. `accuracy`.
        mode: `max` where higher is better, `min` where lower is.
        keep: which evaluation of a trial is kept, `best` or `last`; empty when the run does not say.
    """

    name: str
    mode: Mode = "max"
    keep: str = ""

    @property
    def title(self) -> str:
        return self.name.replace("_", " ").replace("f1", "F1")

    def axis_title(self, data: str = "evaluation data") -> str:
        """What an axis of its values says: `loss on test data (lower is better)`."""
        return f"{self.title} on {data}" + ("" if self.mode == "max" else " (lower is better)")

    @property
    def is_proportion(self) -> bool:
        return self.name in PROPORTIONS

    @property
    def limits(self) -> tuple[float, float]:
        """Its least and its largest value."""
        if self.is_proportion:
            return 0.0, 1.0
        return {"loss": 0.0, "perplexity": 1.0}.get(self.name, -math.inf), math.inf

    def gain(self, value: float, over: float) -> float:
        """How much better `value` is than `over`; negative when it is worse."""
        return value - over if self.mode == "max" else over - value

    def text(self, value: float | None) -> str:
        """A value for people: a percentage for shares, four significant digits otherwise."""
        if value is None or not math.isfinite(value):
            return units.MISSING
        if self.is_proportion:
            return f"{100 * value:.1f} %"
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:#.4g}"

    def interval_text(self, bounds: tuple[float, float]) -> str:
        """An interval for people: `83.0 to 88.5 %` or `2.310 to 2.470`."""
        low, high = bounds
        if self.is_proportion:
            return f"{100 * low:.1f} to {100 * high:.1f} %"
        return f"{self.text(low)} to {self.text(high)}"

    def gain_text(self, bounds: tuple[float, float]) -> str:
        """The interval of a difference for people, with its signs: `-1.2 to +4.0 points`."""
        low, high = bounds
        return f"{100 * low:+.1f} to {100 * high:+.1f} points" if self.is_proportion else f"{low:+.2g} to {high:+.2g}"

    def difference_text(self, difference: float) -> str:
        """The size of a difference for people, without its sign: `1.4 points` or `0.012`."""
        size = abs(difference)
        return f"{100 * size:.1f} points" if self.is_proportion else f"{size:.2g}"


def read_metric(info: Mapping[str, Any], seen: Mapping[str, float] | None = None) -> Metric:
    """The metric of a run.

    Args:
        info: the content of run.json; `metric` and `task` may be missing.
        seen: the metrics of some trial, to choose from when run.json names none.
    """
    said = info.get("metric")
    said = said if isinstance(said, Mapping) else {"name": said}
    name = str(said.get("name") or _default_name(info, seen or {}))
    mode: Mode = "min" if any(word in name for word in _LOWER_IS_BETTER) else "max"
    if said.get("mode") in ("max", "min"):
        mode = said["mode"]
    return Metric(name, mode, str(said.get("keep") or ""))


def _default_name(info: Mapping[str, Any], seen: Mapping[str, float]) -> str:
    task = info.get("task")
    kind = task.get("type") if isinstance(task, Mapping) else task
    if kind == "causal-lm":
        return "loss"
    if kind == "classification" or "accuracy" in seen or not seen:
        return "accuracy"
    return "loss" if "loss" in seen else next(iter(seen))

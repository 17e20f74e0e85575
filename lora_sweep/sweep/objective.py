"""The one number by which searcher, scheduler and final choice judge a trial: its kept evaluation's metric.

With `keep: best` that is the best value so far, with `keep: last` the latest.
"""

from __future__ import annotations

import math

from lora_sweep.errors import TrialFailure
from lora_sweep.records import TrialRecord


def finite_objective(record: TrialRecord, metric: str) -> float:
    """The record's value of the metric.

    Raises:
        TrialFailure: it is missing, NaN or infinite: an early-stopping scheduler would never stop such a trial.
    """
    value = record.metrics.get(metric)
    if value is None or not math.isfinite(value):
        raise TrialFailure(f"{metric} is {value} at step {record.step}")
    return value


def values_over_time(record: TrialRecord, metric: str, mode: str, keep: str) -> list[float]:
    """The objective after each evaluation of the trial, in order."""
    better = max if mode == "max" else min
    values: list[float] = []
    for point in record.history:
        if point.step == 0 or metric not in point.metrics:
            continue
        value = point.metrics[metric]
        values.append(better(values[-1], value) if values and keep == "best" else value)
    return values

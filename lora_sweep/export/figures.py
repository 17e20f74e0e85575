"""Metrics of one adapter on one part of the data, each with its interval over examples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lora_sweep.export.subject import Subject
from lora_sweep.tasks import causal_lm_metrics, classification_metrics
from reports.statistics import Outcomes, intervals, replicates

if TYPE_CHECKING:
    import pandas as pd

Bounds = tuple[float, float]


@dataclass(frozen=True)
class Figures:
    """What was measured.

    Attributes:
        metrics: name to value.
        bounds: name to 95 % interval over examples, of this adapter alone; absent where it is not known.
        examples: on how many; None when the run does not say.
    """

    metrics: Mapping[str, float]
    bounds: Mapping[str, Bounds]
    examples: int | None


def figures_of(frame: pd.DataFrame) -> Figures:
    """Metrics and intervals from outcomes on one part of the data, one row an example."""
    outcomes = _outcomes(frame)
    if outcomes.labels is not None:
        metrics = classification_metrics(_logits(frame), outcomes.labels)
    else:
        metrics = causal_lm_metrics(frame["nll_sum"].to_numpy(), frame["tokens"].to_numpy())
    bounds = {name: found for name in metrics if (found := _interval(outcomes, name)) is not None}
    return Figures(metrics, bounds, len(frame))


def recorded_outcomes(subject: Subject, part: str) -> pd.DataFrame | None:
    """The run's own answers of an adapter on `eval` or `test`; None where it kept none."""
    frame = subject.run.outcomes(subject.name)
    if frame is None:
        return None
    rows = frame[frame["split"] == part]
    return rows.reset_index(drop=True) if len(rows) else None


def recorded_figures(subject: Subject, part: str) -> Figures | None:
    """The run's own figures of an adapter on `eval` or `test`; None where it has none.

    Intervals come from the outcomes, and only where these give the metric on record.
    """
    metrics = subject.recorded_metrics(part)
    if not metrics:
        return None
    frame = recorded_outcomes(subject, part)
    if frame is None:
        examples = subject.info.get("data", {}).get("parts", {}).get(part, {}).get("examples")
        return Figures(metrics, {}, examples)
    own = figures_of(frame)
    same = {name for name, value in metrics.items() if np.isclose(own.metrics.get(name, np.nan), value, rtol=1e-4)}
    return Figures(metrics, {name: bounds for name, bounds in own.bounds.items() if name in same}, own.examples)


def _interval(outcomes: Outcomes, metric: str) -> Bounds | None:
    sample = outcomes.sample(metric)
    if sample is None:
        return None
    # accuracy needs no resamples
    drawn = np.empty((0, 1)) if sample.binary else replicates(sample)
    low, high = intervals(sample, drawn)[0]
    return None if np.isnan(low) or np.isnan(high) else (float(low), float(high))


def _outcomes(frame: pd.DataFrame) -> Outcomes:
    split, ids = str(frame["split"].iloc[0]), frame["example_id"].to_numpy(dtype=object)
    if "label" not in frame.columns:
        nll = frame["nll_sum"].to_numpy(dtype=np.float64)
        tokens = frame["tokens"].to_numpy(dtype=np.int64)
        return Outcomes(split, ("it",), ids, nll=nll[None], tokens=tokens)
    logits, labels = _logits(frame), frame["label"].to_numpy(dtype=np.int64)
    shifted = logits - logits.max(axis=1, keepdims=True)
    nll = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]
    predictions = frame["prediction"].to_numpy(dtype=np.int64)
    return Outcomes(
        split,
        ("it",),
        ids,
        labels=labels,
        predictions=predictions[None],
        hits=(predictions == labels)[None],
        nll=nll[None],
        classes=logits.shape[1],
    )


def _logits(frame: pd.DataFrame) -> np.ndarray:
    """fp64 [n, C]."""
    return np.stack(list(frame["logits"])).astype(np.float64)

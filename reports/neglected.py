"""Classes that the pick hardly ever answers: accuracy forgives that, whoever needs the class does not."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from lora_sweep.store import RunFolder
from reports import units
from reports.pick import Pick
from reports.results import Results

LEAST_EXAMPLES = 10
"""Of a class, to say anything of it."""
MOST_FOUND = 0.1
"""A class of which at most this share is found is neglected."""
_NAMED = 3


def neglected_classes(results: Results, pick: Pick) -> Iterator[str]:
    """One sentence where there are such classes, by the test examples, or without them by the evaluation's."""
    frame = RunFolder(results.path).outcomes(pick.trial_id)
    if frame is None or not {"label", "prediction"} <= set(frame.columns):
        return
    part = "test" if (frame["split"] == "test").any() else "eval"
    found = _neglected(frame[frame["split"] == part])
    if found.empty:
        return
    labels = results.section("task").get("labels") or ()
    texts = [
        f"“{labels[index] if index < len(labels) else index}” ({int(right):,} of {int(total):,} found)"
        for index, right, total in found.head(_NAMED).itertuples()
    ]
    more = f" and {units.plural(len(found) - _NAMED, 'more class', 'more classes')}" if len(found) > _NAMED else ""
    data = "test" if part == "test" else "evaluation"
    remedy = "" if results.metric.name == "macro_f1" else " Set metric.name to macro_f1 where every class matters."
    yield f"The pick hardly ever answers {', '.join(texts)}{more} on the {data} data.{remedy}"


def _neglected(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Right answers and examples of each such class, the largest class first."""
    right = outcomes["label"] == outcomes["prediction"]
    classes = right.groupby(outcomes["label"]).agg(["sum", "size"])
    few = (classes["size"] >= LEAST_EXAMPLES) & (classes["sum"] <= MOST_FOUND * classes["size"])
    return classes[few].sort_values("size", ascending=False)

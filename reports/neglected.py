"""Classes of which the pick finds hardly any example: accuracy forgives that, whoever needs the class does not."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from lora_sweep.store import RunFolder
from reports import units
from reports.frame import finite
from reports.pick import Pick
from reports.results import Results
from reports.statistics import read_outcomes

LEAST_EXAMPLES = 10
"""Of a class, to say anything of it."""
MOST_FOUND = 0.1
"""A class of which at most this share is found is neglected."""
_NAMED = 3


def neglected_classes(results: Results, pick: Pick) -> Iterator[str]:
    """One sentence where there are such classes, by the test examples, or without them by the evaluation's."""
    step = finite(pick.chosen["step"])
    steps = None if math.isnan(step) else {pick.trial_id: int(step)}
    for part, data in (("test", "test"), ("eval", "evaluation")):
        outcomes = read_outcomes(RunFolder(results.path), [pick.trial_id], part, steps)
        if outcomes.labels is None or outcomes.predictions is None or not len(outcomes.labels):
            continue
        found = _neglected(outcomes.labels, outcomes.predictions[0])
        if found:
            yield f"The pick finds hardly any example of {_named(results, found)} on the {data} data.{_remedy(results)}"
        return


def _neglected(labels: np.ndarray, predictions: np.ndarray) -> list[tuple[int, int, int]]:
    """(class, how many are found, how many there are) of each such class, the largest first."""
    total = np.bincount(labels)
    right = np.bincount(labels[labels == predictions], minlength=len(total))
    few = (total >= LEAST_EXAMPLES) & (right <= MOST_FOUND * total)
    return sorted(((int(i), int(right[i]), int(total[i])) for i in np.nonzero(few)[0]), key=lambda one: -one[2])


def _named(results: Results, found: list[tuple[int, int, int]]) -> str:
    labels = results.section("task").get("labels") or ()
    texts = [
        f"“{labels[index] if index < len(labels) else index}” ({right:,} of {total:,})"
        for index, right, total in found[:_NAMED]
    ]
    more = f" and {units.plural(len(found) - _NAMED, 'more class', 'more classes')}" if len(found) > _NAMED else ""
    return ", ".join(texts) + more


def _remedy(results: Results) -> str:
    if results.metric.name == "macro_f1" or results.section("imported"):
        return ""
    return " Set metric.name to macro_f1 where every class matters."

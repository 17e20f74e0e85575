"""Trials on an equal footing: the hyperparameters that varied, and a quality that means the same for each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from reports import units
from reports.frame import NO_TARGETS
from reports.metric import Metric
from reports.results import Results

MOST_DISTINCT = 12
"""A number with more distinct values than this is shown as a range."""


@dataclass(frozen=True)
class Hyperparameter:
    """One setting that differed between trials.

    Attributes:
        name: its column in `Comparable.trials`.
        title: how the report calls it.
        kind: a number, or a category without an order.
        log: whether a number is read in its logarithm.
    """

    name: str
    title: str
    kind: Literal["number", "category"] = "number"
    log: bool = False


HYPERPARAMETERS = (
    Hyperparameter("rank", "rank", log=True),
    Hyperparameter("alpha_over_rank", "alpha / rank", log=True),
    Hyperparameter("dropout", "dropout"),
    Hyperparameter("bias", "biases", "category"),
    Hyperparameter("target_label", "target modules", "category"),
    Hyperparameter("learning_rate", "learning rate", log=True),
    Hyperparameter("batch_size", "batch size", log=True),
    Hyperparameter("accumulate", "accumulated batches", log=True),
    Hyperparameter("optimizer", "optimizer", "category"),
    Hyperparameter("weight_decay", "weight decay"),
    Hyperparameter("schedule", "schedule", "category"),
    Hyperparameter("warmup", "warm-up"),
    Hyperparameter("clip", "clipping", "category"),
)


@dataclass(frozen=True)
class Comparable:
    """Trials whose qualities were measured at the same point of training.

    Attributes:
        metric: the quality.
        trials: a row a trial: trial_id, status, `value` (the quality) and a column for each of `varied`.
        varied: the hyperparameters with at least two values here, known of every trial.
        when: where `value` was measured, to follow "quality": `at step 30 of 120`.
        why: the same as a sentence, with the reason.
        left_out: complete and stopped trials that have no such quality, or adapt no layer while others do.
        final: whether every trial here trained to its end.
    """

    metric: Metric
    trials: pd.DataFrame
    varied: tuple[Hyperparameter, ...]
    when: str
    why: str
    left_out: int
    final: bool

    def values_of(self, one: Hyperparameter) -> list[float] | list[str]:
        """The distinct values, in order."""
        found = self.trials[one.name].unique()
        return sorted(map(str, found)) if one.kind == "category" else sorted(map(float, found))

    def is_discrete(self, one: Hyperparameter) -> bool:
        """Whether it is shown value by value: a category, or few numbers that several trials share."""
        distinct = self.trials[one.name].nunique()
        return one.kind == "category" or (distinct <= MOST_DISTINCT and 2 * distinct <= len(self.trials))


def own_trials(results: Results) -> pd.DataFrame:
    """Complete and stopped trials that the search suggested, without repeats of others with another seed."""
    return results.with_status("complete", "stopped")


def comparable(results: Results) -> Comparable:
    """The searched trials with a quality from the same point of training.

    When every trial is complete that is its kept evaluation. Otherwise it is the last evaluation that all of them
    reached: figures of later ones exist only for trials that a scheduler let live because they were good, so that a
    comparison of those would be a comparison of survivors.
    """
    trials = own_trials(results)
    if (trials["status"] == "complete").all():
        values = trials.set_index("trial_id")["quality"].astype(float)
        when, why, final = "at the kept evaluation", _final(results.metric), True
    else:
        values, number, shown = _at_a_common_evaluation(trials, results.points)
        when, final = f"at {shown}", False
        why = (
            f"{units.plural(int((trials['status'] == 'stopped').sum()), 'trial')} did not train to the end, so all are "
            f"compared at {shown}, the last evaluation (number {number}) that every one reached. What matters there "
            "need not matter at the end."
        )
    table = _settings(trials).assign(value=trials["trial_id"].map(values).astype(float))
    known = table[table["value"].notna()].reset_index(drop=True)
    varied = tuple(one for one in HYPERPARAMETERS if known[one.name].nunique() > 1 and known[one.name].notna().all())
    kept = known[["trial_id", "status", *(one.name for one in varied), "value"]]
    return Comparable(results.metric, kept, varied, when, why, len(trials) - len(kept), final)


def _final(metric: Metric) -> str:
    kept = " (the best of its evaluations)" if metric.keep == "best" else ""
    return f"Every trial trained to its end; each is judged by its kept evaluation{kept}."


def _at_a_common_evaluation(trials: pd.DataFrame, points: pd.DataFrame) -> tuple[pd.Series[float], int, str]:
    """The quality by trial at the last evaluation that all reached, that evaluation's number, and what it is called."""
    known = points[points["trial_id"].isin(trials["trial_id"]) & points["quality"].astype(float).notna()]
    turn = known.groupby("trial_id").cumcount() + 1
    reached = turn.groupby(known["trial_id"]).max()
    if reached.empty:
        return pd.Series(dtype=float), 0, "no evaluation"
    number = int(reached.min())
    rows = known[turn == number].set_index("trial_id")
    budgets = trials.set_index("trial_id")["steps"].reindex(rows.index)
    return rows["quality"].astype(float), number, _called(number, rows["step"].astype(float), budgets.astype(float))


def _called(number: int, steps: pd.Series[float], budgets: pd.Series[float]) -> str:
    if steps.nunique() == budgets.nunique() == 1 and budgets.notna().all():
        return f"step {steps.iloc[0]:.0f} of {budgets.iloc[0]:.0f}"
    share = float((steps / budgets).median())
    return f"evaluation {number}" + ("" if math.isnan(share) else f", about {units.percent(share)} of the budget")


def _settings(trials: pd.DataFrame) -> pd.DataFrame:
    """Every hyperparameter as a float or a text; a rank and its alpha mean nothing without LoRA layers."""
    adapting = trials[trials["target_label"] != NO_TARGETS]
    trials = adapting if len(adapting) else trials
    table = trials[["trial_id", "status"]].astype(object)
    for one in HYPERPARAMETERS:
        column = trials[one.name]
        table[one.name] = _texts(column) if one.kind == "category" else _rounded(column)
    return table


def _texts(column: pd.Series[str]) -> list[str]:
    return ["none" if pd.isna(value) else _text(value) for value in column]


def _text(value: object) -> str:
    return units.number(value) if isinstance(value, (int, float)) else str(value)


def _rounded(column: pd.Series[float]) -> list[float]:
    """alpha / rank of 2 may come out as 1.9999999: that is no second value."""
    return [float(f"{float(value):.6g}") for value in column]


def sampled(rows: int, most: int, seed: int = 0) -> Sequence[int]:
    """At most `most` of the positions 0 to rows - 1, ascending, drawn evenly with a seed."""
    if rows <= most:
        return range(rows)
    drawn = np.random.default_rng(seed).choice(rows, most, replace=False)
    return [int(one) for one in np.sort(drawn)]
